import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import {
  ErrorCode,
  McpError,
  type Progress,
  ToolListChangedNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";
import { IpyboxError, messageOf, systemCodeOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { formatDuration } from "../common/time.ts";
import { unknownTool, UnsentCallError } from "./call-errors.ts";
import type { Connection } from "./connect.ts";
import { describeFailure, mcpMessage } from "./failure.ts";
import { RESULT_TOO_LARGE } from "./process-transport.ts";
import type { Redactor } from "./redaction.ts";
import { listAllTools, type UpstreamTool } from "./tool-list.ts";

/** MCP's CallToolResult of a call that succeeded, secrets taken out. */
export interface ToolResult {
  readonly content: readonly unknown[];
  readonly structuredContent?: unknown;
  readonly _meta?: Readonly<Record<string, unknown>> | undefined;
}

export interface ToolProgress {
  readonly progress: number;
  readonly total?: number;
  readonly message?: string;
}

export interface ToolCallOptions {
  /** Of this call alone: the SDK takes its listener off no signal, and would cancel what has long been answered. */
  readonly signal: AbortSignal;
  /** Since the call or the upstream's last progress. */
  readonly timeoutMs: number;
  readonly onProgress?: (progress: ToolProgress) => void;
}

export interface UpstreamOptions {
  readonly name: string;
  readonly redactor: Redactor;
  readonly logger: Logger;
  /** Bounds each request that is not a call. */
  readonly timeoutMs: number;
  readonly onToolsChanged: (tools: readonly UpstreamTool[]) => void;
}

const callResult = z.looseObject({
  content: z.array(z.looseObject({ type: z.string() })).default([]),
  structuredContent: z.unknown().optional(),
  isError: z.boolean().optional(),
  _meta: z.record(z.string(), z.unknown()).optional(),
});

const REQUEST_TIMEOUT: number = ErrorCode.RequestTimeout;
const MAX_TIMER_MS = 2 ** 31 - 1;
const MAX_ERROR_CHARACTERS = 100_000;
/** A server that announces changes without end is asked for its tools no more often than this. */
const RELIST_INTERVAL_MS = 1000;
const RELIST_DELAY_MS = 50;

/** A live connection to one MCP server. What comes out of it holds no secrets. */
export class Upstream implements AsyncDisposable {
  readonly #client: Client;
  readonly #connection: Connection;
  readonly #options: UpstreamOptions;
  readonly #disposal = new AbortController();
  /** By the names that we tell, which differ from the server's own only where those hold a secret. */
  #tools: ReadonlyMap<string, { readonly tool: UpstreamTool; readonly originalName: string }> = new Map();
  #warnings: readonly string[] = [];
  #closed = false;
  #relistTimer: NodeJS.Timeout | undefined;
  #relistedAt = 0;

  /** Takes `connection` over. {@link listTools} comes next. */
  constructor(connection: Connection, options: UpstreamOptions) {
    this.#client = connection.client;
    this.#connection = connection;
    this.#options = options;
    this.#client.onclose = () => {
      this.#closed = true;
      clearTimeout(this.#relistTimer);
    };
    this.#client.onerror = (error) => {
      const fields = { upstream: options.name, error: options.redactor.text(messageOf(error)) };
      options.logger.debug("An upstream's connection reported an error", fields);
    };
    this.#client.setNotificationHandler(ToolListChangedNotificationSchema, () => this.#scheduleRelist());
  }

  /** Whether the connection is gone: by the server's own doing, or by disposal. */
  get closed(): boolean {
    return this.#closed;
  }

  /** In the server's order. */
  get tools(): readonly UpstreamTool[] {
    return [...this.#tools.values()].map(({ tool }) => tool);
  }

  get warnings(): readonly string[] {
    return this.#warnings;
  }

  get instructions(): string | undefined {
    const instructions = this.#client.getInstructions();
    return instructions === undefined ? undefined : this.#options.redactor.text(instructions);
  }

  has(tool: string): boolean {
    return this.#tools.has(tool);
  }

  /** Reads the server's tools anew. */
  async listTools(signal: AbortSignal): Promise<void> {
    const { tools, warnings } = await listAllTools(this.#client, { signal, timeoutMs: this.#options.timeoutMs });
    this.#tools = new Map(
      tools.map((original) => {
        const tool = this.#options.redactor.json(original);
        return [tool.name, { tool, originalName: original.name }];
      }),
    );
    this.#warnings = this.#options.redactor.json(warnings);
  }

  /**
   * Calls a tool that {@link has} knows.
   *
   * @throws IpyboxError `tool-failed` with the server's own words, `tool-timeout`, `tool-cancelled` (the server has been
   *   told), `unknown-tool`, or `upstream-unavailable` where the connection broke.
   */
  async call(name: string, args: Record<string, unknown>, options: ToolCallOptions): Promise<ToolResult> {
    const originalName = this.#tools.get(name)?.originalName;
    if (originalName === undefined) throw unknownTool(this.#options.name, name, this.#tools.keys());
    try {
      const { isError, ...result } = await this.#client.request(
        { method: "tools/call", params: { name: originalName, arguments: args } },
        callResult,
        {
          signal: options.signal,
          timeout: Math.min(options.timeoutMs, MAX_TIMER_MS),
          resetTimeoutOnProgress: true,
          onprogress: (progress) => this.#onProgress(progress, options.onProgress),
        },
      );
      if (isError === true) throw this.#toolError(textOf(result.content));
      return this.#options.redactor.json(result);
    } catch (error) {
      throw await this.#explain(error, name, options);
    }
  }

  /** Resolves within 2 s, when a stdio server's processes are gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#disposal.abort();
    clearTimeout(this.#relistTimer);
    await this.#connection.close();
  }

  #onProgress({ progress, total, message }: Progress, report: ToolCallOptions["onProgress"]): void {
    report?.({
      progress,
      ...(total === undefined ? {} : { total }),
      ...(message === undefined ? {} : { message: this.#options.redactor.text(message) }),
    });
  }

  async #explain(error: unknown, tool: string, { signal, timeoutMs }: ToolCallOptions): Promise<IpyboxError> {
    const { name } = this.#options;
    if (error instanceof IpyboxError) return error;
    if (signal.aborted) {
      if (signal.reason instanceof IpyboxError) return signal.reason;
      return new IpyboxError("tool-cancelled", `The call of ${name}.${tool} was cancelled`);
    }
    if (isTimeout(error)) {
      return new IpyboxError("tool-timeout", `${name}.${tool} did not answer within ${formatDuration(timeoutMs)}`, {
        hint: "Give the cell a longer timeout.",
      });
    }
    if (error instanceof McpError && error.code === RESULT_TOO_LARGE) {
      return new IpyboxError("tool-result-too-large", `${name}.${tool}: ${mcpMessage(error)}`);
    }
    if (error instanceof McpError && !this.#closed) return this.#toolError(mcpMessage(error));
    if (error instanceof z.core.$ZodError) return this.#toolError("The server's answer is no MCP tool result");
    return await this.#broken(error);
  }

  /** The transport failed. Whatever is left of the connection is closed; the next call makes a new one. */
  async #broken(error: unknown): Promise<IpyboxError> {
    const { name, redactor } = this.#options;
    const end = this.#connection.end();
    await this[Symbol.asyncDispose]();
    const output = this.#connection.errorOutput();
    const why =
      (end ?? this.#connection.end() ?? describeFailure(error, redactor)) + (output === "" ? "" : `\n${output}`);
    const message = redactor.text(`The MCP server ${name} broke off during the call: ${why}`);
    const hint = "Call again: the server is started anew then.";
    return systemCodeOf(error) === "EPIPE"
      ? new UnsentCallError("upstream-unavailable", message, { hint })
      : new IpyboxError("upstream-unavailable", message, { hint });
  }

  #toolError(text: string): IpyboxError {
    const message = text === "" ? "The tool reported an error without saying which" : text;
    return new IpyboxError("tool-failed", this.#options.redactor.text(message).slice(0, MAX_ERROR_CHARACTERS));
  }

  #scheduleRelist(): void {
    if (this.#closed) return;
    const delayMs = Math.max(RELIST_DELAY_MS, this.#relistedAt + RELIST_INTERVAL_MS - Date.now());
    this.#relistTimer ??= setTimeout(() => void this.#relist(), delayMs).unref();
  }

  async #relist(): Promise<void> {
    this.#relistTimer = undefined;
    this.#relistedAt = Date.now();
    const before = JSON.stringify(this.tools);
    try {
      await this.listTools(this.#disposal.signal);
      if (JSON.stringify(this.tools) !== before) this.#options.onToolsChanged(this.tools);
    } catch (error) {
      if (this.#closed) return;
      const fields = { upstream: this.#options.name, error: this.#options.redactor.text(messageOf(error)) };
      this.#options.logger.warn("An upstream's changed tools could not be listed", fields);
    }
  }
}

/** A timeout of ours, not an error of the server's that happens to have the same code. */
function isTimeout(error: unknown): boolean {
  if (!(error instanceof McpError) || error.code !== REQUEST_TIMEOUT) return false;
  return typeof error.data === "object" && error.data !== null && "timeout" in error.data;
}

function textOf(content: readonly { readonly type: string; readonly text?: unknown }[]): string {
  return content.flatMap(({ type, text }) => (type === "text" && typeof text === "string" ? [text] : [])).join("\n");
}
