import {
  type CatalogueTool,
  type GeneratedModule,
  type GenerateOptions,
  generateApi,
  warmUpGenerator,
} from "../apigen/catalogue.ts";
import type { ToolBroker } from "../broker/tool-broker.ts";
import { messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import type { LiveSandbox } from "./live-sandbox.ts";
import type { WaitOptions } from "./sandbox-keeper.ts";

export interface RegisteredServer {
  /** Python modules of its tools, in the server's order. */
  readonly modules: readonly string[];
  readonly warnings: readonly string[];
}

export interface RegistrationOptions extends WaitOptions {
  /** What to do about unknown keys of the parameters: an error, or, for files of other clients, a warning. */
  readonly unknownKeys?: "error" | "warn";
}

export interface ServerRegistrarOptions {
  readonly broker: ToolBroker;
  /** The open sandbox, which generates the API. */
  readonly sandbox: (wait: WaitOptions) => Promise<LiveSandbox>;
  readonly logger: Logger;
}

/** Registers MCP servers: connected on the host, their Python API generated in the sandbox, then committed. */
export class ServerRegistrar {
  readonly #options: ServerRegistrarOptions;

  constructor(options: ServerRegistrarOptions) {
    this.#options = options;
  }

  /** A failure leaves an earlier registration of that name, and its API, as they were. */
  async register(name: string, params: unknown, options: RegistrationOptions): Promise<RegisteredServer> {
    const { signal, onStep, unknownKeys } = options;
    void this.#warmUp(options);
    await using registration = await this.#options.broker.register(name, params, {
      signal,
      onProgress: onStep,
      ...(unknownKeys && { unknownKeys }),
    });
    const modules = await this.#generate(name, registration.tools, options);
    await registration.commit(byTool(modules));
    for (const { module, fallback } of modules) {
      if (fallback !== undefined)
        this.#options.logger.info("a tool's API is not fully typed", { server: name, module, fallback });
    }
    return { modules: modules.map(({ module }) => module), warnings: registration.warnings };
  }

  /** A registered server announced other tools: its API is generated anew in the background. */
  async toolsChanged(name: string, tools: readonly CatalogueTool[], signal: AbortSignal): Promise<void> {
    try {
      const modules = await this.#generate(name, tools, { signal, patient: true, onStep: () => undefined });
      await this.#options.broker.noteTools(name, byTool(modules));
      this.#options.logger.info("generated the API of a server whose tools changed", {
        server: name,
        tools: tools.length,
      });
    } catch (error) {
      this.#options.logger.warn("the API of a server whose tools changed could not be generated", {
        server: name,
        error: messageOf(error),
      });
    }
  }

  /** While the server is being connected to. Never rejects: what fails here fails again where it is reported. */
  async #warmUp(options: WaitOptions): Promise<void> {
    try {
      await warmUpGenerator(generatorOf(await this.#options.sandbox(options), options));
    } catch (error) {
      this.#options.logger.debug("the generator is not warm", { error: messageOf(error) });
    }
  }

  async #generate(name: string, tools: readonly CatalogueTool[], options: WaitOptions) {
    const live = await this.#options.sandbox(options);
    if (tools.length > 0) options.onStep(`Generating mcptools.${name}`);
    await live.pushFiles(options.signal); // what was edited by hand is not to be a conflict
    const modules = await generateApi(name, tools, generatorOf(live, options));
    for (const notice of await live.pullFiles(options.signal)) this.#options.logger.info(notice, { server: name });
    return modules;
  }
}

function generatorOf({ gateway }: LiveSandbox, { signal }: WaitOptions): GenerateOptions {
  return { post: (path, body, postSignal) => gateway.post(path, body, postSignal), signal };
}

function byTool(modules: readonly GeneratedModule[]): Map<string, string> {
  return new Map(modules.map(({ tool, module }) => [tool, module]));
}
