export { type App, type AppOptions, openApp } from "./app.ts";
export { ERROR_CODES, type ErrorCode, IpyboxError } from "./common/errors.ts";
export type { Config } from "./config/options.ts";
export type { BuildStep, Sandbox, SandboxEngine, SandboxExit, SandboxSpec } from "./sandbox/engine.ts";
export type { CellResult, ToolCallRecord } from "./session/cell-result.ts";
export type { Session } from "./session/session.ts";
