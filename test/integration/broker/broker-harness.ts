import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { type BrokerOptions, ToolBroker } from "../../../src/broker/tool-broker.ts";
import type { ToolCallOptions } from "../../../src/broker/upstream.ts";
import { silentLogger } from "../../../src/common/logger.ts";

const projectRoot = resolve(fileURLToPath(import.meta.url), "../../../..");

/** Path of a file that the project's own npm packages hold. */
export const inPackage = (path: string): string => join(projectRoot, "node_modules", path);

export const EVERYTHING = inPackage("@modelcontextprotocol/server-everything/dist/index.js");
export const MANY_TALENTS = join(import.meta.dirname, "servers/many-talents.mjs");

/** Brokers of one workspace in a directory of their own; disposing closes them and removes it. */
export class BrokerHarness implements AsyncDisposable {
  readonly root = realpathSync(mkdtempSync(join(tmpdir(), "broker-")));
  readonly workspace = join(this.root, "workspace");
  readonly state = join(this.root, "state");
  readonly variables = new Map<string, { value: string; fromEnvFile: boolean }>();
  readonly #brokers: ToolBroker[] = [];

  async open(options: Partial<BrokerOptions> = {}): Promise<ToolBroker> {
    await mkdir(this.workspace, { recursive: true });
    const broker = new ToolBroker({
      directory: this.state,
      workspace: this.workspace,
      writableDirectories: [this.workspace],
      allowWorkspaceUpstream: false,
      variables: () => Promise.resolve(this.variables),
      expose: ["*"],
      noRedact: [],
      elicitor: () => undefined,
      hostEnvironment: process.env,
      fetch: (url, { signal, ...request }) => fetch(url, { ...request, ...(signal && { signal }) }),
      clientInfo: { name: "broker-test", version: "1.0.0" },
      logger: silentLogger,
      ...options,
    });
    this.#brokers.push(broker);
    return broker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#brokers.map((broker) => broker[Symbol.asyncDispose]()));
    rmSync(this.root, { recursive: true });
  }
}

/** Registers for good; tools keep their names as module names. */
export async function register(broker: ToolBroker, name: string, params: unknown) {
  const registration = await broker.register(name, params, { signal: new AbortController().signal });
  await registration.commit(new Map(registration.tools.map((tool) => [tool.name, tool.name])));
  return registration;
}

/** Calls with a long timeout and no cancellation unless told otherwise. */
export function call(
  broker: ToolBroker,
  server: string,
  tool: string,
  args: Record<string, unknown> = {},
  options: Partial<ToolCallOptions> = {},
) {
  const defaults = { signal: new AbortController().signal, timeoutMs: 30_000 };
  return broker.call({ server, tool, arguments: args }, { ...defaults, ...options });
}

/** Compiles a source file and what it imports, for a process of its own; returns the file to import. */
export function compile(source: string, directory: string): string {
  const outDir = join(directory, "compiled");
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    rewriteRelativeImportExtensions: true,
    noCheck: true,
    types: [],
    rootDir: join(projectRoot, "src"),
    outDir,
  };
  ts.createProgram([join(projectRoot, source)], options).emit();
  mkdirSync(outDir, { recursive: true });
  writeFileSync(join(outDir, "package.json"), '{"type":"module"}');
  symlinkSync(join(projectRoot, "node_modules"), join(outDir, "node_modules"));
  return join(outDir, source.replace(/^src\//, "").replace(/\.ts$/, ".js"));
}
