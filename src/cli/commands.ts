import type { CommandName, Config } from "../config/options.ts";
import type { CommandSyntax } from "./command-line.ts";
import type { Invocation } from "./invocation.ts";

export interface Command extends CommandSyntax {
  readonly summary: string;
  /** What is wrong with its positional argument. */
  readonly findOperandProblems?: (operand: string) => Promise<string[]>;
  /** What it would say of a configuration, which may be incomplete: asked only where the line is refused already. */
  readonly findProblems?: (config: Partial<Config>) => Promise<string[]>;
  /** Resolves to the exit code. Throws IpyboxError for what the user can mend. */
  readonly run: (invocation: Invocation) => Promise<number>;
}

const JSON_FLAG = { name: "json", help: "Print JSON" };

const findGroundProblems = async (config: Partial<Config>) => (await import("../ground.ts")).findGroundProblems(config);

/** What a command needs is loaded when it runs: `serve` has to answer its client in a quarter of a second. */
export const COMMANDS: Readonly<Record<CommandName, Command>> = {
  serve: {
    name: "serve",
    summary: "MCP server on stdio (default)",
    own: [],
    findProblems: findGroundProblems,
    run: async (invocation) => (await import("./serve.ts")).serve(invocation),
  },
  run: {
    name: "run",
    summary: "Run a Python file as one cell in a fresh sandbox, its output streamed to the terminal; exit 0 or 1",
    operand: "FILE|-",
    own: [],
    findOperandProblems: async (path) => (await import("./run.ts")).findSourceProblems(path),
    findProblems: findGroundProblems,
    run: async (invocation) => (await import("./run.ts")).run(invocation),
  },
  build: {
    name: "build",
    summary: "Build the kernel image",
    own: [],
    run: async (invocation) => (await import("./build.ts")).build(invocation),
  },
  doctor: {
    name: "doctor",
    summary: "Check everything that ipybox needs; exit 1 when something fails",
    own: [JSON_FLAG],
    run: async (invocation) => (await import("./doctor.ts")).doctor(invocation),
  },
  ps: {
    name: "ps",
    summary: "List the sandboxes of this host",
    own: [JSON_FLAG],
    run: async (invocation) => (await import("./ps.ts")).ps(invocation),
  },
  prune: {
    name: "prune",
    summary: "Remove sandboxes whose owner is dead, old images, and package volumes whose workspace is gone",
    own: [{ name: "all", help: "Every sandbox and package volume, in use or not" }],
    run: async (invocation) => (await import("./prune.ts")).prune(invocation),
  },
  servers: {
    name: "servers",
    summary: "List the MCP servers that are registered in the workspace, placeholders unresolved",
    own: [{ name: "remove", value: "NAME", help: "Remove this registration" }],
    findProblems: async (config) => (await import("../ground.ts")).findWorkspaceProblems(config),
    run: async (invocation) => (await import("./servers.ts")).servers(invocation),
  },
};
