import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport, type StdioServerParameters } from "@modelcontextprotocol/sdk/client/stdio.js";
import {
  type CallToolResult,
  CallToolResultSchema,
  type ElicitRequest,
  ElicitRequestSchema,
  type ElicitResult,
  isInitializeRequest,
  type JSONRPCMessage,
} from "@modelcontextprotocol/sdk/types.js";

import { shareEnvironments } from "./environments.ts";

/** A directory of its own for a test, removed at its end. */
export class TestDirectory implements Disposable {
  readonly path = realpathSync(mkdtempSync(join(tmpdir(), "test-ipybox-")));

  make(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export interface ConnectOptions {
  readonly bin: string;
  readonly directory: TestDirectory;
  /** `<directory>/workspace` by default. */
  readonly workspace?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The user's answers to questions; without it the client can't be asked. */
  readonly elicit?: (question: ElicitRequest["params"]) => ElicitResult;
  /** What the client asks for; the SDK's latest by default. */
  readonly protocolVersion?: string;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (message: string) => void;
}

/** A real MCP client with a server of its own, whose state is in the test's directory. */
export class TestClient implements AsyncDisposable {
  readonly client: Client;
  readonly transport: StdioClientTransport;
  readonly workspace: string;
  stderr = "";

  private constructor(options: ConnectOptions) {
    const { elicit } = options;
    const capabilities = elicit === undefined ? {} : { elicitation: {} };
    this.client = new Client({ name: "test", version: "1.0.0" }, { capabilities });
    if (elicit !== undefined) this.client.setRequestHandler(ElicitRequestSchema, ({ params }) => elicit(params));
    this.workspace = options.workspace ?? options.directory.make("workspace");
    this.transport = new TransportOfVersion(options.protocolVersion, {
      command: options.bin,
      args: ["--workspace", this.workspace, ...(options.args ?? [])],
      env: { ...baseEnvironment(options.directory), ...options.env },
      stderr: "pipe",
    });
    this.transport.stderr?.on("data", (chunk: Buffer) => (this.stderr += chunk.toString()));
  }

  static async connect(options: ConnectOptions): Promise<TestClient> {
    const client = new TestClient(options);
    await client.client.connect(client.transport);
    return client;
  }

  async call(
    name: string,
    args: Record<string, unknown> = {},
    { signal, onProgress }: CallOptions = {},
  ): Promise<CallToolResult> {
    const result = await this.client.callTool({ name, arguments: args }, CallToolResultSchema, {
      timeout: 170_000,
      ...(signal && { signal }),
      ...(onProgress && { onprogress: ({ message }) => onProgress(message ?? "") }),
    });
    return result as CallToolResult; // what the given schema parsed
  }

  cell(code: string, args: Record<string, unknown> = {}, options: CallOptions = {}): Promise<CallToolResult> {
    return this.call("execute_ipython_cell", { code, ...args }, options);
  }

  /** The text of a cell that must not fail. */
  async text(code: string, args: Record<string, unknown> = {}): Promise<string> {
    const result = await this.cell(code, args);
    if (result.isError === true) throw new Error(textOf(result));
    return textOf(result);
  }

  register(server_name: string, server_params: unknown): Promise<CallToolResult> {
    return this.call("register_mcp_server", { server_name, server_params });
  }

  /** The text blocks of a registration that must not fail: its modules, and warnings. */
  async modules(server_name: string, server_params: unknown): Promise<string[]> {
    const result = await this.register(server_name, server_params);
    if (result.isError === true) throw new Error(`${server_name}: ${textOf(result)}`);
    return result.content.map((block) => (block.type === "text" ? block.text : block.type));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}

/** The SDK's client always asks for the latest version. */
class TransportOfVersion extends StdioClientTransport {
  readonly #version: string | undefined;

  constructor(version: string | undefined, server: StdioServerParameters) {
    super(server);
    this.#version = version;
  }

  override send(message: JSONRPCMessage): Promise<void> {
    if (this.#version === undefined || !isInitializeRequest(message)) return super.send(message);
    return super.send({ ...message, params: { ...message.params, protocolVersion: this.#version } });
  }
}

/** What a server of a test gets of the environment: the tools of this machine, state of its own, nothing of the developer's. */
export function baseEnvironment(directory: TestDirectory): Record<string, string> {
  const kept = [
    "PATH",
    "HOME",
    "DOCKER_HOST",
    "IPYBOX_LINK", // the whole suite over another link
    "IPYBOX_RUNTIME",
    "IPYBOX_SANDBOX",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
  ];
  const inherited = Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
  const stateHome = directory.make("state");
  if (!existsSync(join(stateHome, "ipybox"))) shareEnvironments(join(stateHome, "ipybox"));
  return { ...inherited, XDG_STATE_HOME: stateHome, XDG_CONFIG_HOME: directory.make("config") };
}

/** The first text block. */
export function textOf(result: CallToolResult): string {
  const [block] = result.content;
  return block?.type === "text" ? block.text : "";
}

export interface CellMeta {
  readonly status: string;
  readonly durationMs: number;
  readonly executionCount: number | null;
  readonly truncated: boolean;
  readonly stateKept: boolean;
  readonly toolCalls: readonly { server: string; tool: string; status: string }[];
}

export function metaOf(result: CallToolResult): CellMeta {
  return result._meta?.["ipybox/cell"] as CellMeta; // the shape that the server documents
}

export function errorCodeOf(result: CallToolResult): string | undefined {
  return (result._meta?.["ipybox/error"] as { code: string } | undefined)?.code; // likewise
}

/** Parameters of a real MCP server from npm, as installed for the tests. */
export function upstream(
  name: "everything" | "filesystem" | "memory" | "sequential-thinking" | "brave-search",
  ...args: string[]
) {
  const script = join(import.meta.dirname, `../../node_modules/@modelcontextprotocol/server-${name}/dist/index.js`);
  return { command: process.execPath, args: [script, ...args] };
}
