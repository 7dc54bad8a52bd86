import type { CommandName } from "../config/options.ts";
import type { CommandSyntax } from "./command-line.ts";
import { build } from "./build.ts";
import { doctor } from "./doctor.ts";
import type { Invocation } from "./invocation.ts";
import { prune } from "./prune.ts";
import { ps } from "./ps.ts";
import { run } from "./run.ts";
import { serve } from "./serve.ts";
import { servers } from "./servers.ts";

export interface Command extends CommandSyntax {
  readonly summary: string;
  /** Resolves to the exit code. Throws IpyboxError for what the user can mend. */
  readonly run: (invocation: Invocation) => Promise<number>;
}

const JSON_FLAG = { name: "json", help: "Print JSON" };

export const COMMANDS: Readonly<Record<CommandName, Command>> = {
  serve: { name: "serve", summary: "MCP server on stdio (default)", own: [], run: serve },
  run: {
    name: "run",
    summary: "Run a Python file as one cell in a fresh sandbox, its output streamed to the terminal; exit 0 or 1",
    operand: "FILE|-",
    own: [],
    run,
  },
  build: { name: "build", summary: "Build the kernel image", own: [], run: build },
  doctor: {
    name: "doctor",
    summary: "Check everything that ipybox needs; exit 1 when something fails",
    own: [JSON_FLAG],
    run: doctor,
  },
  ps: { name: "ps", summary: "List the sandboxes of this host", own: [JSON_FLAG], run: ps },
  prune: {
    name: "prune",
    summary: "Remove sandboxes whose owner is dead, old images, and package volumes whose workspace is gone",
    own: [{ name: "all", help: "Every sandbox and package volume, in use or not" }],
    run: prune,
  },
  servers: {
    name: "servers",
    summary: "List the MCP servers that are registered in the workspace, placeholders unresolved",
    own: [{ name: "remove", value: "NAME", help: "Remove this registration" }],
    run: servers,
  },
};
