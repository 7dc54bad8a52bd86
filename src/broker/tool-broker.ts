import { isDeepStrictEqual } from "node:util";
import { IpyboxError } from "../common/errors.ts";
import { unknownTool, UnsentCallError } from "./call-errors.ts";
import { KeptUpstream } from "./kept-upstream.ts";
import type { OpenedUpstream, OpeningOptions } from "./open-upstream.ts";
import { type RegisteredServer, type RegisteredTool, Registry } from "./registry.ts";
import { checkServerName, parseServerParams, type ServerParams } from "./server-params.ts";
import type { UpstreamTool } from "./tool-list.ts";
import type { ToolCallOptions, ToolResult, Upstream } from "./upstream.ts";

export interface BrokerOptions extends OpeningOptions {
  /** A connected server announced other tools than it had; its API is out of date. */
  readonly onToolsChanged?: (server: string, tools: readonly UpstreamTool[]) => void;
}

export interface RegisterOptions {
  readonly signal: AbortSignal;
  /** What to do about keys of the parameters that we don't know. */
  readonly unknownKeys?: "error" | "warn";
  readonly onProgress?: (message: string) => void;
}

/** A connected server that is not registered yet. Disposing of it, unless committed, changes nothing. */
export interface Registration extends AsyncDisposable {
  readonly name: string;
  /** In the server's order; secrets taken out. */
  readonly tools: readonly UpstreamTool[];
  /** What the server says about its use. */
  readonly instructions: string | undefined;
  readonly warnings: readonly string[];
  /** Makes it the server of that name, in place of an earlier one. `modules`: the Python module of each tool. */
  commit(modules: ReadonlyMap<string, string>): Promise<void>;
}

export interface BrokerCall {
  readonly server: string;
  readonly tool: string;
  readonly arguments: Record<string, unknown>;
}

/**
 * The MCP servers of a workspace. Only registered servers and the tools that they list can be called; parameters,
 * and the secrets in them, are resolved here and go nowhere else.
 */
export class ToolBroker implements AsyncDisposable {
  readonly #options: BrokerOptions;
  readonly #registry: Registry;
  readonly #servers = new Map<string, KeptUpstream>();
  readonly #disposal = new AbortController();

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#registry = new Registry(options.directory, options.logger);
  }

  /**
   * Connects to a server and lists its tools. An earlier registration of that name stays as it is until the commit.
   *
   * @throws IpyboxError `invalid-server-name`, `invalid-server-params`, `missing-variable`, `workspace-program`,
   *   `upstream-start-failed` with the server's own reason, `tool-cancelled`.
   */
  async register(name: string, serverParams: unknown, options: RegisterOptions): Promise<Registration> {
    checkServerName(name);
    const { params, warnings } = parseServerParams(serverParams, { unknownKeys: options.unknownKeys ?? "error" });
    options.onProgress?.(`Connecting to ${name}`);
    const signal = AbortSignal.any([options.signal, this.#disposal.signal]);
    const opened = await this.#open(name, params, signal);
    options.onProgress?.(`Connected to ${name}: ${opened.upstream.tools.length} tools`);
    return this.#registration(name, params, opened, warnings);
  }

  /**
   * Calls a listed tool of a registered server, which is connected first where it is not.
   *
   * @throws IpyboxError `unknown-server`, `unknown-tool`, `tool-failed` with the upstream's own text, `tool-timeout`,
   *   `tool-cancelled`, `upstream-unavailable`, or why the server could not be connected to.
   */
  async call(call: BrokerCall, options: ToolCallOptions): Promise<ToolResult> {
    try {
      return await this.#callOnce(call, options);
    } catch (error) {
      if (!(error instanceof UnsentCallError)) throw error;
      return await this.#callOnce(call, options); // a server that ended a moment ago is what restarting is for
    }
  }

  /** The registered servers of the workspace, those of other sessions too; placeholders unresolved. */
  async list(): Promise<ReadonlyMap<string, RegisteredServer>> {
    return await this.#registry.all();
  }

  /** Notes the tools that a server announced, once there is a Python module for each. */
  async noteTools(name: string, modules: ReadonlyMap<string, string>): Promise<void> {
    await this.#registry.setTools(name, registeredTools(modules));
  }

  /** Forgets a server and closes its connection. Resolves to whether there was one. */
  async remove(name: string): Promise<boolean> {
    const removed = await this.#registry.remove(name);
    await this.#replace(name, undefined);
    return removed;
  }

  /** Closes every connection; the processes of stdio servers are gone within 2 s. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal.abort(new IpyboxError("tool-cancelled", "The session is being closed"));
    const servers = [...this.#servers.values()];
    this.#servers.clear();
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
  }

  async #callOnce(call: BrokerCall, options: ToolCallOptions): Promise<ToolResult> {
    let kept = this.#servers.get(call.server) ?? (await this.#adopt(call.server));
    let upstream = kept.live ?? (await kept.get(options.signal));
    if (!upstream.has(call.tool)) {
      kept = await this.#adoptAnew(call, kept, upstream);
      upstream = await kept.get(options.signal);
    }
    try {
      const result = await upstream.call(call.tool, call.arguments, options);
      kept.succeeded();
      return result;
    } catch (error) {
      if (error instanceof IpyboxError && error.code === "tool-failed") kept.succeeded();
      if (upstream.closed) kept.failed(error instanceof Error ? error.message : "its connection was lost", upstream);
      throw error;
    }
  }

  async #open(name: string, params: ServerParams, signal: AbortSignal): Promise<OpenedUpstream> {
    // Sessions that use no MCP server are spared the client's time and memory.
    const { openUpstream } = await import("./open-upstream.ts");
    const onToolsChanged = (tools: readonly UpstreamTool[]) => this.#options.onToolsChanged?.(name, tools);
    return openUpstream(name, params, this.#options, { signal, onToolsChanged });
  }

  #registration(
    name: string,
    params: ServerParams,
    { upstream, warnings }: OpenedUpstream,
    earlierWarnings: readonly string[],
  ): Registration {
    let committed = false;
    return {
      name,
      tools: upstream.tools,
      instructions: upstream.instructions,
      warnings: [...earlierWarnings, ...warnings],
      commit: async (modules) => {
        const tools = registeredTools(modules);
        this.#disposal.signal.throwIfAborted();
        await this.#registry.set(name, { params, tools });
        committed = true;
        await this.#replace(name, this.#keep(name, params, upstream));
      },
      [Symbol.asyncDispose]: async () => {
        if (!committed) await upstream[Symbol.asyncDispose]();
      },
    };
  }

  #keep(name: string, params: ServerParams, initial?: Upstream): KeptUpstream {
    const connect = async (signal: AbortSignal) => {
      const whileOpen = AbortSignal.any([signal, this.#disposal.signal]);
      return (await this.#open(name, params, whileOpen)).upstream;
    };
    return new KeptUpstream({ name, params, connect, ...(initial && { initial }) });
  }

  async #replace(name: string, server: KeptUpstream | undefined): Promise<void> {
    const earlier = this.#servers.get(name);
    if (server) this.#servers.set(name, server);
    else this.#servers.delete(name);
    await earlier?.[Symbol.asyncDispose]();
  }

  /** A server that an earlier session, or another one of this workspace, registered. */
  async #adopt(name: string): Promise<KeptUpstream> {
    const registered = await this.#registry.get(name);
    this.#disposal.signal.throwIfAborted();
    if (!registered) throw await this.#unknownServer(name);
    const kept = this.#servers.get(name) ?? this.#keep(name, registered.params);
    this.#servers.set(name, kept);
    return kept;
  }

  /** For a tool that the connected server lacks: another session may have registered the name with other parameters. */
  async #adoptAnew(call: BrokerCall, earlier: KeptUpstream, upstream: Upstream): Promise<KeptUpstream> {
    const registered = await this.#registry.get(call.server);
    if (!registered || isDeepStrictEqual(registered.params, earlier.params)) {
      const known = upstream.tools.map(({ name }) => name);
      throw unknownTool(call.server, call.tool, known);
    }
    const kept = this.#keep(call.server, registered.params);
    await this.#replace(call.server, kept);
    return kept;
  }

  async #unknownServer(name: string): Promise<IpyboxError> {
    const known = [...(await this.#registry.all()).keys()].join(", ");
    return new IpyboxError("unknown-server", `No MCP server called ${JSON.stringify(name)} is registered`, {
      hint: `Register it with register_mcp_server. Registered are: ${known === "" ? "none" : known}.`,
    });
  }
}

function registeredTools(modules: ReadonlyMap<string, string>): RegisteredTool[] {
  return [...modules].map(([name, module]) => ({ name, module }));
}
