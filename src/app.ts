import { realpath, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { resolve } from "node:path";

import { ALL_IN_ONE, type AllInOneUsers } from "./all-in-one.ts";
import { allowedDomains, chooseEngine, engineWarnings, hasLimits, hasShields } from "./choose-engine.ts";
import { IpyboxError } from "./common/errors.ts";
import { ReleaseStack } from "./common/lifecycle.ts";
import { createLogger, type Logger } from "./common/logger.ts";
import { stateDirectory } from "./config/directories.ts";
import type { Config } from "./config/options.ts";
import { kernelEnvironment } from "./config/variables.ts";
import { type Ground, layGround, ownerOf, usersBeside } from "./ground.ts";
import type { AdministeredEngine } from "./sandbox/engine-admin.ts";
import { openSession, type OpenSessionOptions } from "./session/open-session.ts";
import type { Session } from "./session/session.ts";
import { VERSION } from "./version.ts";
import { isWithin } from "./workspace/dangerous-directories.ts";

export interface AppOptions {
  /** Asks the user on behalf of an upstream. */
  readonly elicitor?: OpenSessionOptions["upstreams"]["elicitor"];
}

/** One session over one engine, made from the configuration. */
export interface App extends AsyncDisposable {
  readonly session: Session;
  readonly logger: Logger;
  /** Begins to open the sandbox, removes those of dead owners and registers the servers of `--mcp-config`; never rejects. */
  start(): void;
}

export async function openApp(config: Config, options: AppOptions = {}): Promise<App> {
  return openAppOn(await layGround(config), options);
}

/** {@link openApp} for a configuration that has been checked. */
export async function openAppOn(ground: Ground, options: AppOptions = {}): Promise<App> {
  const { config, workspace, owner, cellsBeside, mounts, servers, variables, logger } = ground;
  await using stack = new ReleaseStack();
  const engine = stack.use(chooseEngine(config, { workspace: workspace.path, owner, cellsBeside, logger }));
  for (const warning of engineWarnings(config, cellsBeside)) logger.warn(warning);
  const session = stack.use(
    await openSession({
      engine,
      workspace,
      owner,
      mounts,
      shields: hasShields(config)
        ? { mask: await masksOf(ground), protect: config.protect, unprotect: config.unprotect }
        : undefined,
      memoryLimitBytes: hasLimits(config) ? config.memory : undefined,
      stateDir: stateDirectory(process.env),
      home: homedir(),
      env: process.env,
      variables,
      kernelEnvironment: async () => kernelEnvironment(await variables()),
      upstreams: {
        expose: config.expose,
        noRedact: config.noRedact,
        allowWorkspaceUpstream: config.allowWorkspaceUpstream,
        elicitor: options.elicitor ?? (() => undefined),
        ...(cellsBeside && { whereToSet: WHERE_TO_SET, processUser: processUser(cellsBeside) }),
      },
      packages: {
        indexUrl: config.indexUrl,
        extraIndexUrls: config.extraIndexUrl,
        builds: cellsBeside === undefined,
        innerPath: config.sandbox === "docker" ? "/workspace" : undefined,
      },
      egress: { allowDomain: allowedDomains(config), allowPrivate: config.allowPrivate },
      version: VERSION,
      logger,
    }),
  );
  const closing = new AbortController();
  stack.defer(() => closing.abort());
  const owned = stack.move();
  return {
    session,
    logger,
    start: () => {
      session.start();
      engine
        .reapOrphans()
        .catch((error: unknown) => logger.warn("sandboxes of dead owners were not looked for", { error }));
      void registerAll(session, servers, logger, closing.signal);
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** An env file in the workspace is hidden whatever its name: cells must neither read nor plant what MCP servers get. */
async function masksOf({ config, workspace }: Ground): Promise<readonly string[]> {
  const envFile = config.envFile === undefined ? undefined : await realpath(config.envFile).catch(() => undefined);
  return envFile !== undefined && isWithin(envFile, workspace.path) ? [...config.mask, envFile] : config.mask;
}

const WHERE_TO_SET =
  "Start the container with `-e NAME` or `--env-file FILE` of docker run, then register again. The .env of the workspace is not " +
  "loaded, because cells can read it: hide it from them with `-v /dev/null:/app/workspace/.env`.";

function processUser({ upstream }: AllInOneUsers) {
  const { upstreamName: name, upstreamHome: home, workingDirectories: directory } = ALL_IN_ONE;
  return { ...upstream, name, home, directory };
}

/** The engine alone, for commands without a session. They share nothing, so `$HOME` is as good a workspace as any. */
export async function openEngine(config: Config): Promise<AdministeredEngine> {
  const logger = createLogger({ level: config.logLevel, format: config.logFormat });
  const workspace = await realpath(config.workspace).catch(() => resolve(config.workspace));
  const { uid, gid } = await stat(workspace).catch(() => stat("."));
  const cellsBeside = usersBeside(config);
  const owner = ownerOf({ uid, gid }, cellsBeside);
  return chooseEngine(config, { workspace, owner, cellsBeside, logger });
}

async function registerAll(
  session: Session,
  servers: ReadonlyMap<string, unknown>,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const register = async ([name, params]: [string, unknown]) => {
    try {
      const { modules, warnings } = await session.registerServer(name, params, {
        signal,
        patient: true,
        onStep: () => undefined,
        unknownKeys: "warn",
      });
      logger.info("registered an MCP server of --mcp-config", { server: name, tools: modules.length });
      for (const warning of warnings) logger.warn(warning, { server: name });
    } catch (error) {
      if (signal.aborted) return;
      logger.error("an MCP server of --mcp-config was not registered", {
        server: name,
        error,
        ...(error instanceof IpyboxError && { hint: error.hint }),
      });
    }
  };
  await Promise.all([...servers].map(register));
}
