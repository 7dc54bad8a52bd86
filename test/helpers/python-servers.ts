import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "../..");
const UV = join(ROOT, "images/kernel/.venv/bin/uv");
const ENVIRONMENTS = { git: "python", time: "python", sqlite: "python-mcp1" } as const;

/** Parameters of a real MCP server from PyPI, as installed for the tests. */
export function pythonUpstream(name: keyof typeof ENVIRONMENTS, ...args: string[]) {
  return { command: join(environmentOf(ENVIRONMENTS[name]), `bin/mcp-server-${name}`), args };
}

/** A Python that has the MCP SDK, of its 2.x or 1.x line, as locked for those servers. */
export function pythonWithSdk(line: "2.x" | "1.x"): string {
  return join(environmentOf(line === "2.x" ? ENVIRONMENTS.git : ENVIRONMENTS.sqlite), "bin/python");
}

/** Global set-up: the locked environments in which those servers are installed, made anew when a lock has changed. */
export default function setup(): void {
  if (!existsSync(UV)) throw new Error(`${UV} is missing: run bash images/kernel/make-venv.sh images/kernel/.venv`);
  for (const name of new Set(Object.values(ENVIRONMENTS))) makeEnvironment(name);
}

function makeEnvironment(name: string): void {
  const environment = environmentOf(name);
  const lock = join(environment, "../requirements.lock");
  const marker = join(environment, "made-from");
  const digest = createHash("sha256").update(readFileSync(lock)).digest("hex");
  if (existsSync(marker) && readFileSync(marker, "utf8") === digest) return;
  uv("venv", "--clear", "--python", join(ROOT, "images/kernel/.venv/bin/python"), environment);
  uv("pip", "sync", "--require-hashes", "--python", join(environment, "bin/python"), lock);
  writeFileSync(marker, digest);
}

function environmentOf(name: string): string {
  return join(ROOT, "test/servers", name, ".venv");
}

function uv(...args: string[]): void {
  execFileSync(UV, [...args, "--quiet"], { stdio: ["ignore", "ignore", "inherit"] });
}
