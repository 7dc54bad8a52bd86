import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { chown, mkdir } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { IpyboxError } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { connect, type Target } from "./connect.ts";
import type { Elicit } from "./elicitation.ts";
import { describeFailure } from "./failure.ts";
import { type Environment, upstreamEnvironment } from "./environment.ts";
import type { HttpFetch } from "./http-transport.ts";
import { resolvePlaceholders, type Variables } from "./placeholders.ts";
import { checkProgram } from "./programs.ts";
import { createRedactor, type Redactor } from "./redaction.ts";
import type { HttpParams, ServerParams, StdioParams } from "./server-params.ts";
import type { UpstreamTool } from "./tool-list.ts";
import { Upstream } from "./upstream.ts";

/** What every upstream of a workspace is opened with. */
export interface OpeningOptions {
  /** The workspace's own directory in the state directory: private working directories are made in it. */
  readonly directory: string;
  /** Real path. */
  readonly workspace: string;
  /** Real paths of everything that cells can write: the workspace and writable mounts. */
  readonly writableDirectories: readonly string[];
  readonly allowWorkspaceUpstream: boolean;
  /** Read anew each time an upstream is opened. */
  readonly variables: () => Promise<Variables>;
  /** Globs of the variables that placeholders may use. */
  readonly expose: readonly string[];
  /** What the user is told of a variable that is not set, if not the usual. */
  readonly whereToSet?: string | undefined;
  /** Variables whose values are not taken out of what upstreams say. */
  readonly noRedact: readonly string[];
  /** The server's own environment. */
  readonly hostEnvironment: Environment;
  readonly clientInfo: { readonly name: string; readonly version: string };
  /** The host's way to servers over HTTP. */
  readonly fetch: HttpFetch;
  /** Asked when an upstream is opened; undefined while the user can't be asked anything. */
  readonly elicitor: () => Elicit | undefined;
  /** Where cells are processes beside those of stdio upstreams; absent where they live in machines of their own. */
  readonly processUser?: ProcessUser | undefined;
  readonly logger: Logger;
}

/** As whom the processes of stdio upstreams run, so that cells can't touch them. Cells do see their command lines. */
export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
  readonly name: string;
  readonly home: string;
  /** Where private working directories are made; nobody writes in it who might put a link there. */
  readonly directory: string;
}

export interface OpenedUpstream {
  readonly upstream: Upstream;
  readonly warnings: readonly string[];
}

/**
 * Resolves placeholders, connects, and reads the tools. A failed attempt leaves nothing behind, and no message of it
 * shows a resolved secret.
 */
export async function openUpstream(
  name: string,
  params: ServerParams,
  options: OpeningOptions,
  call: { readonly signal: AbortSignal; readonly onToolsChanged: (tools: readonly UpstreamTool[]) => void },
): Promise<OpenedUpstream> {
  const variables = await options.variables();
  const { expose, workspace, whereToSet } = options;
  const { value: resolved, used } = resolvePlaceholders(params, { variables, expose, workspace, whereToSet });
  const redactor = createRedactor({ variables, used, exempt: options.noRedact });
  const timeoutMs = params.timeout * 1000;
  const { clientInfo, fetch, elicitor, logger } = options;
  try {
    if (options.processUser !== undefined) refuseVisibleSecrets(resolved, redactor);
    const { target, warnings } = await targetOf(name, resolved, options);
    const { signal } = call;
    const elicit = elicitor();
    const connection = await connect(target, { name, timeoutMs, clientInfo, fetch, redactor, elicit, signal });
    const { onToolsChanged } = call;
    const upstream = new Upstream(connection, { name, redactor, logger, timeoutMs, onToolsChanged });
    try {
      await upstream.listTools(call.signal);
    } catch (error) {
      await upstream[Symbol.asyncDispose]();
      throw listingFailed(name, error, { signal: call.signal, redactor });
    }
    return { upstream, warnings: [...warnings, ...upstream.warnings] };
  } catch (error) {
    throw redacted(error, redactor);
  }
}

function listingFailed(
  name: string,
  error: unknown,
  { signal, redactor }: { readonly signal: AbortSignal; readonly redactor: Redactor },
): unknown {
  if (signal.aborted && signal.reason instanceof IpyboxError) return signal.reason;
  if (signal.aborted) return new IpyboxError("tool-cancelled", `Connecting to the MCP server ${name} was cancelled`);
  const message = `The MCP server ${name} did not list its tools: ${describeFailure(error, redactor)}`;
  return new IpyboxError("upstream-start-failed", message, {
    hint: "It was reached: look at its own log, try another version of it, or give a longer `timeout` (seconds).",
    cause: error,
  });
}

interface CheckedTarget {
  readonly target: Target;
  readonly warnings: readonly string[];
}

function targetOf(name: string, params: ServerParams, options: OpeningOptions): CheckedTarget | Promise<CheckedTarget> {
  if (!isStdio(params)) return { target: { kind: "http", params }, warnings: [] };
  if (process.platform !== "win32") return processTarget(name, params, options);
  throw new IpyboxError("upstream-start-failed", "MCP servers over stdio can't be started natively on Windows", {
    hint: "Run ipybox in WSL 2, or register a server that speaks HTTP.", // what makes sure of their end is a POSIX shell
  });
}

async function processTarget(name: string, params: StdioParams, options: OpeningOptions): Promise<CheckedTarget> {
  const { writableDirectories, allowWorkspaceUpstream } = options;
  const mark = randomBytes(16).toString("hex");
  const user = options.processUser;
  const identity = user && { HOME: user.home, USER: user.name, LOGNAME: user.name };
  const host = { ...options.hostEnvironment, ...identity };
  const env = upstreamEnvironment(host, params.env, writableDirectories, mark);
  const cwd = params.cwd ?? (await privateDirectory(name, options));
  if (!isAbsolute(cwd) || statSync(cwd, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new IpyboxError("invalid-server-params", `cwd is not the absolute path of a directory: ${cwd}`, {
      hint: "Give a directory of the host, or leave cwd out: the server gets a private directory then.",
    });
  }
  const { command, args } = params;
  const program = checkProgram({ command, args, cwd, env }, writableDirectories, {
    allowWorkspace: allowWorkspaceUpstream,
  });
  const process = { executable: program.executable, args, cwd, env, mark, user };
  return { target: { kind: "process", process }, warnings: program.warnings };
}

/** Programs look for code in their working directory (`node_modules/.bin`, `./` of Python): no cell writes to this one. */
async function privateDirectory(name: string, { directory, processUser }: OpeningOptions): Promise<string> {
  const parent = processUser?.directory ?? join(directory, "cwd");
  await mkdir(parent, { recursive: true, mode: processUser ? 0o755 : 0o700 });
  const path = join(parent, name);
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (processUser !== undefined) await chown(path, processUser.uid, processUser.gid);
  return path;
}

/** Any user can read the command line of any process. */
function refuseVisibleSecrets(params: ServerParams, redactor: Redactor): void {
  if (!isStdio(params)) return;
  const seen = [params.command, ...params.args].filter((text) => redactor.text(text) !== text);
  if (seen.length === 0) return;
  throw new IpyboxError("invalid-server-params", `Cells can read the command line of this server: ${seen.join(" ")}`, {
    hint: "Give the secret in `env` instead, under the name of the variable that the server takes it from.",
  });
}

function isStdio(params: StdioParams | HttpParams): params is StdioParams {
  return "command" in params;
}

function redacted(error: unknown, redactor: Redactor): unknown {
  if (!(error instanceof IpyboxError)) return error;
  const hint = error.hint === undefined ? {} : { hint: redactor.text(error.hint) };
  return new IpyboxError(error.code, redactor.text(error.message), { ...hint, context: error.context });
}
