import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import type { RequestHandlerExtra } from "@modelcontextprotocol/sdk/shared/protocol.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import {
  CallToolRequestSchema,
  type CallToolResult,
  type ElicitRequestFormParams,
  ErrorCode,
  isInitializeRequest,
  LATEST_PROTOCOL_VERSION,
  ListResourcesRequestSchema,
  ListResourceTemplatesRequestSchema,
  ListToolsRequestSchema,
  McpError,
  ReadResourceRequestSchema,
  type ServerNotification,
  type ServerRequest,
  SUPPORTED_PROTOCOL_VERSIONS,
} from "@modelcontextprotocol/sdk/types.js";
import type { jsonSchemaValidator } from "@modelcontextprotocol/sdk/validation";
import { AjvJsonSchemaValidator } from "@modelcontextprotocol/sdk/validation/ajv";

import { IpyboxError, messageOf } from "../common/errors.ts";
import { Deferred } from "../common/lifecycle.ts";
import type { Logger, LogRecord } from "../common/logger.ts";
import type { Elicit, ElicitationAnswer, ElicitationRequest, Session } from "../session/session.ts";
import { admitArguments, type Tool } from "./define-tool.ts";
import { INSTRUCTIONS } from "./instructions.ts";
import { ProgressReporter } from "./progress.ts";
import { renderError } from "./render.ts";
import { readResource, RESOURCE_TEMPLATES } from "./resources.ts";
import { StdioTransport } from "./stdio-transport.ts";
import { executeCellTool } from "./tools/execute-cell.ts";
import { installPackageTool } from "./tools/install-package.ts";
import { registerServerTool } from "./tools/register-server.ts";
import { resetTool } from "./tools/reset.ts";

type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>;

/** The first protocol version with `resource_link` content. */
const RESOURCE_LINKS_SINCE = "2025-06-18";

/** How long a person may think. */
const MAX_QUESTION_MS = 600_000;

export interface McpServerOptions {
  readonly version: string;
  /** Whether the model may register servers. */
  readonly registration: "allow" | "config-only";
  readonly logger: Logger;
}

/* eslint-disable @typescript-eslint/no-deprecated -- the SDK's high-level class answers wrong arguments with protocol
   errors and offers no leniency; its documentation names this one for such cases. */

/**
 * Our side of one MCP connection: four tools and two kinds of resources over one session, which may be provided after
 * the client has been greeted; calls wait for it.
 */
export class McpServer {
  readonly #server: Server;
  readonly #options: McpServerOptions;
  readonly #tools: ReadonlyMap<string, Tool>;
  readonly #session = new Deferred<Session>();
  readonly #greeted = new Deferred<void>();
  #protocolVersion = "";
  #initialized = false;

  constructor(options: McpServerOptions) {
    this.#options = options;
    this.#server = new Server(
      { name: "ipybox", title: "ipybox: IPython in a sandbox", version: options.version },
      {
        capabilities: { tools: {}, resources: {}, logging: {} },
        instructions: INSTRUCTIONS,
        jsonSchemaValidator: lateValidator,
      },
    );
    const session = this.#session.promise;
    const tools = [
      executeCellTool(session),
      registerServerTool(session, options.registration),
      installPackageTool(session),
      resetTool(session),
    ];
    this.#server.oninitialized = () => (this.#initialized = true);
    this.#tools = new Map(tools.map((tool) => [tool.listing.name, tool]));
    this.#handleRequests();
  }

  /** Resolves when the client's `initialize` is being answered. */
  get greeted(): Promise<void> {
    return this.#greeted.promise;
  }

  /** What calls have been waiting for. */
  provide(session: Session): void {
    this.#session.resolve(session);
  }

  /** Answers requests on stdin from now on; `initialize` does not wait for the sandbox. */
  serveStdio(): Promise<void> {
    return this.connect(new StdioTransport());
  }

  async connect(transport: Transport): Promise<void> {
    // The SDK does not tell which version was negotiated; it keeps a handler that is there before it connects.
    transport.onmessage = (message: unknown) => {
      admitArguments(message);
      if (!isInitializeRequest(message)) return;
      const { protocolVersion } = message.params;
      this.#protocolVersion = SUPPORTED_PROTOCOL_VERSIONS.includes(protocolVersion)
        ? protocolVersion
        : LATEST_PROTOCOL_VERSION;
      this.#greeted.resolve();
    };
    await this.#server.connect(transport);
    this.#server.onerror = (error) => this.#options.logger.warn("protocol error", { error });
  }

  /** Hangs up. */
  close(): Promise<void> {
    return this.#server.close();
  }

  /** Passes a log record on to the client, which chooses its level by `logging/setLevel`. */
  forwardLog(record: LogRecord): void {
    if (!this.#initialized || record.level === "debug") return;
    const level = record.level === "warn" ? "warning" : record.level;
    this.#server
      .sendLoggingMessage({ level, logger: "ipybox", data: { message: record.message, ...plainFields(record) } })
      .catch(() => undefined);
  }

  /** Passes an upstream's question on to the user; undefined where the client can't show a form. */
  get elicitor(): Elicit | undefined {
    const canAsk = this.#server.getClientCapabilities()?.elicitation?.form !== undefined;
    return canAsk ? (request, options) => this.#elicit(request, options) : undefined;
  }

  async #elicit(request: ElicitationRequest, options: { readonly signal: AbortSignal }): Promise<ElicitationAnswer> {
    const { message, requestedSchema } = request;
    const answer = await this.#server.elicitInput(
      // The upstream's SDK checked it as a schema of an elicitation, and the client checks it again.
      { message, requestedSchema: requestedSchema as ElicitRequestFormParams["requestedSchema"] },
      { signal: options.signal, timeout: MAX_QUESTION_MS },
    );
    return { action: answer.action, ...(answer.content && { content: answer.content }) };
  }

  #handleRequests(): void {
    this.#server.setRequestHandler(ListToolsRequestSchema, () => ({
      tools: [...this.#tools.values()].map((tool) => tool.listing),
    }));
    this.#server.setRequestHandler(CallToolRequestSchema, (request, extra) =>
      this.#call(request.params.name, request.params.arguments, extra),
    );
    this.#server.setRequestHandler(ListResourcesRequestSchema, () => ({ resources: [] }));
    this.#server.setRequestHandler(ListResourceTemplatesRequestSchema, () => ({
      resourceTemplates: RESOURCE_TEMPLATES,
    }));
    this.#server.setRequestHandler(ReadResourceRequestSchema, async (request) => {
      const contents = await readResource(request.params.uri, await this.#session.promise);
      if (contents === undefined) throw new McpError(ErrorCode.InvalidParams, `unknown resource ${request.params.uri}`);
      return { contents: [contents] };
    });
  }

  async #call(name: string, args: unknown, extra: Extra): Promise<CallToolResult> {
    const tool = this.#tools.get(name);
    if (tool === undefined) throw new McpError(ErrorCode.InvalidParams, `unknown tool ${name}`);
    const progress = this.#progressOf(extra);
    try {
      return await tool.call(args, {
        signal: extra.signal,
        progress,
        resourceLinks: this.#protocolVersion >= RESOURCE_LINKS_SINCE,
      });
    } catch (error) {
      if (extra.signal.aborted) {
        this.#options.logger.info("call cancelled", { tool: name, error: messageOf(error) });
      } else if (error instanceof IpyboxError) {
        this.#options.logger.info("call failed", { tool: name, code: error.code, ...error.context });
      } else {
        this.#options.logger.error("unexpected error", {
          tool: name,
          stack: error instanceof Error ? error.stack : String(error),
        });
      }
      return renderError(error);
    } finally {
      progress[Symbol.dispose]();
    }
  }

  #progressOf(extra: Extra): ProgressReporter {
    const progressToken = extra._meta?.progressToken;
    if (progressToken === undefined) return new ProgressReporter(undefined);
    return new ProgressReporter((progress, message) => {
      extra
        .sendNotification({ method: "notifications/progress", params: { progressToken, progress, message } })
        .catch(() => undefined);
    });
  }
}

/** Made when an answer to a question has to be checked: making it takes a while, and greeting the client comes first. */
const lateValidator: jsonSchemaValidator = {
  getValidator: (schema) => new AjvJsonSchemaValidator().getValidator(schema),
};

function plainFields(record: LogRecord): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(record.fields).map(([key, value]) => [key, value instanceof Error ? value.message : value]),
  );
}
