import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { IpyboxError, systemCodeOf } from "../common/errors.ts";
import { formatDuration } from "../common/time.ts";
import { abortable } from "./abortable.ts";
import { answerElicitations, type Elicit } from "./elicitation.ts";
import { describeFailure, httpStatusOf } from "./failure.ts";
import { closeHttpTransport, type HttpFetch, httpTransport } from "./http-transport.ts";
import { type ProcessOptions, ProcessTransport } from "./process-transport.ts";
import type { Redactor } from "./redaction.ts";
import type { HttpParams } from "./server-params.ts";

/** A client that is connected to an MCP server. */
export interface Connection {
  readonly client: Client;
  /** How the connection ended, where that is known. */
  end(): string | undefined;
  /** The last lines that a process wrote to stderr; secrets still in them. */
  errorOutput(): string;
  /** Never rejects. Twice is the same as once. */
  close(): Promise<void>;
}

/** What to connect to: a process to start, or a URL. */
export type Target =
  | { readonly kind: "process"; readonly process: ProcessOptions }
  | { readonly kind: "http"; readonly params: HttpParams };

export interface ConnectOptions {
  readonly name: string;
  readonly timeoutMs: number;
  readonly clientInfo: { readonly name: string; readonly version: string };
  readonly fetch: HttpFetch;
  readonly redactor: Redactor;
  /** Absent: the capability is not declared, and upstreams don't ask. */
  readonly elicit?: Elicit | undefined;
  readonly signal: AbortSignal;
}

/**
 * Connects and initializes. A failed attempt leaves nothing behind.
 *
 * @throws IpyboxError `upstream-start-failed` with the server's own reason, `tool-cancelled`.
 */
export async function connect(target: Target, options: ConnectOptions): Promise<Connection> {
  const deadline = AbortSignal.timeout(options.timeoutMs);
  if (target.kind === "process") return await attempt(openProcess(target.process, options), options, deadline);
  const { params } = target;
  const kind = params.type === "sse" ? "sse" : "streamable_http";
  try {
    return await attempt(openHttp(params, kind, options), options, deadline);
  } catch (error) {
    const status = error instanceof IpyboxError ? httpStatusOf(error.cause) : undefined;
    if (params.type !== undefined || status === undefined || status < 400 || status > 499) throw error;
    return await attempt(openHttp(params, "sse", options), options, deadline).catch((sseError: unknown) => {
      // "Not found" and "method not allowed" are what an SSE server says to the first attempt: the second one counts.
      throw status === 404 || status === 405 ? sseError : error;
    });
  }
}

interface OpenConnection extends Connection {
  readonly transport: Transport;
}

function openProcess(process: ProcessOptions, options: ConnectOptions): OpenConnection {
  const transport = new ProcessTransport(process);
  const end = () => (transport.end === undefined ? undefined : `it ended with ${transport.end}`);
  return {
    client: newClient(options),
    transport,
    end,
    errorOutput: () => transport.errorLines,
    close: () => transport.close(),
  };
}

function openHttp(params: HttpParams, kind: "streamable_http" | "sse", options: ConnectOptions): OpenConnection {
  let end: string | undefined;
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= closeHttpTransport(transport));
  const transport = httpTransport(params, kind, {
    fetch: options.fetch,
    onBroken: (error) => {
      end ??= describeFailure(error, options.redactor);
      void close();
    },
  });
  return { client: newClient(options), transport, end: () => end, errorOutput: () => "", close };
}

function newClient({ name, clientInfo, elicit, redactor }: ConnectOptions): Client {
  const client = new Client(clientInfo, { capabilities: elicit ? { elicitation: { form: {} } } : {} });
  if (elicit) answerElicitations(client, name, redactor, elicit);
  return client;
}

async function attempt(open: OpenConnection, options: ConnectOptions, deadline: AbortSignal): Promise<Connection> {
  const signal = AbortSignal.any([options.signal, deadline]);
  try {
    const { client, transport } = open;
    await abortable(
      client.connect(transport, { signal, timeout: options.timeoutMs }),
      signal,
      () => new Error("aborted"),
    );
    return open;
  } catch (error) {
    const end = open.end();
    await open.close();
    if (options.signal.aborted) throw cancelled(options);
    // A process that ends at once breaks its pipe before we hear of its end.
    const why =
      end ?? (systemCodeOf(error) === "EPIPE" ? open.end() : undefined) ?? describeFailure(error, options.redactor);
    throw startFailed(options, deadline.aborted ? undefined : why, open.errorOutput(), error);
  }
}

function cancelled({ name, signal }: ConnectOptions): IpyboxError {
  if (signal.reason instanceof IpyboxError) return signal.reason;
  return new IpyboxError("tool-cancelled", `Connecting to the MCP server ${name} was cancelled`);
}

function startFailed(
  options: ConnectOptions,
  why: string | undefined,
  errorOutput: string,
  cause: unknown,
): IpyboxError {
  const reason = why ?? `it did not answer within ${formatDuration(options.timeoutMs)}`;
  const output = errorOutput === "" ? "" : `\nLast lines of its error output:\n${errorOutput}`;
  const message = options.redactor.text(`The MCP server ${options.name} could not be started: ${reason}${output}`);
  const hint = "Check its command, arguments, URL and credentials. Slow to start? Give a longer `timeout` (seconds).";
  return new IpyboxError("upstream-start-failed", message, { cause, hint });
}
