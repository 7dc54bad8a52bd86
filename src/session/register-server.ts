import { join } from "node:path";
import {
  type CatalogueTool,
  type GeneratedModule,
  type GenerateOptions,
  generateApi,
  warmUpGenerator,
} from "../apigen/catalogue.ts";
import type { ToolBroker } from "../broker/tool-broker.ts";
import { messageOf } from "../common/errors.ts";
import { withHostLock } from "../common/host-lock.ts";
import type { Logger } from "../common/logger.ts";
import type { GatewayClient } from "../kernel/gateway-client.ts";
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
  readonly broker: Pick<ToolBroker, "register" | "noteTools">;
  /** State directory of the workspace: servers that work in it generate the API of one name in turn. */
  readonly stateDir: string;
  /** The open sandbox, which generates the API. */
  readonly sandbox: (wait: WaitOptions) => Promise<GeneratingSandbox>;
  readonly logger: Logger;
}

type GeneratingSandbox = Pick<LiveSandbox, "pushFiles" | "pullFiles"> & {
  readonly gateway: Pick<GatewayClient, "post">;
};

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
    const modules = await this.#generate(name, registration.tools, options, (made) =>
      registration.commit(byTool(made)),
    );
    for (const { module, fallback } of modules) {
      if (fallback !== undefined)
        this.#options.logger.info("a tool's API is not fully typed", { server: name, module, fallback });
    }
    return { modules: modules.map(({ module }) => module), warnings: registration.warnings };
  }

  /** A registered server announced other tools: its API is generated anew in the background. */
  async toolsChanged(name: string, tools: readonly CatalogueTool[], signal: AbortSignal): Promise<void> {
    try {
      const options = { signal, patient: true, onStep: () => undefined };
      await this.#generate(name, tools, options, (modules) => this.#options.broker.noteTools(name, byTool(modules)));
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
      await warmUpGenerator(generatorOf(await this.#options.sandbox(options), options.signal));
    } catch (error) {
      this.#options.logger.debug("the generator is not warm", { error: messageOf(error) });
    }
  }

  /** In turn with other servers of the workspace, so that API and registration are of the same tools. */
  async #generate(
    name: string,
    tools: readonly CatalogueTool[],
    { signal, patient, onStep }: WaitOptions,
    commit: (modules: readonly GeneratedModule[]) => Promise<void>,
  ): Promise<readonly GeneratedModule[]> {
    const live = await this.#options.sandbox({ signal, patient, onStep });
    const lock = { signal, onWaiting: () => onStep(`Waiting for another session that registers ${name}`) };
    return await withHostLock(join(this.#options.stateDir, "apis", name), lock, async (lost) => {
      const generating = AbortSignal.any([signal, lost]);
      if (tools.length > 0) onStep(`Generating mcptools.${name}`);
      await live.pushFiles(generating); // what was edited by hand is not to be a conflict
      const modules = await generateApi(name, tools, generatorOf(live, generating));
      for (const notice of await live.pullFiles(generating)) this.#options.logger.info(notice, { server: name });
      await commit(modules);
      return modules;
    });
  }
}

function generatorOf({ gateway }: GeneratingSandbox, signal: AbortSignal): GenerateOptions {
  return { post: (path, body, postSignal) => gateway.post(path, body, postSignal), signal };
}

function byTool(modules: readonly GeneratedModule[]): Map<string, string> {
  return new Map(modules.map(({ tool, module }) => [tool, module]));
}
