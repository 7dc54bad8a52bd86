import { homedir } from "node:os";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { IpyboxError } from "./common/errors.ts";
import { ReleaseStack } from "./common/lifecycle.ts";
import { createLogger, type Logger, type LogRecord } from "./common/logger.ts";
import { runtimeDirectory, stateDirectory } from "./config/directories.ts";
import type { Config } from "./config/options.ts";
import { readServersFile } from "./config/servers-file.ts";
import { kernelEnvironment, mergeVariables } from "./config/variables.ts";
import type { AdministeredEngine } from "./sandbox/engine-admin.ts";
import { createDockerEngine } from "./sandbox/engines.ts";
import { openSession, type OpenSessionOptions } from "./session/open-session.ts";
import type { Session } from "./session/session.ts";
import { VERSION } from "./version.ts";
import { readEnvFile } from "./workspace/env-file.ts";
import { checkMount, parseMount } from "./workspace/mounts.ts";
import { decideOwner, type Owner } from "./workspace/owner.ts";
import { openWorkspace, type Workspace } from "./workspace/workspace.ts";

export interface AppOptions {
  /** Receives every log record besides stderr. */
  readonly onLog?: (record: LogRecord) => void;
  /** Asks the user on behalf of an upstream. */
  readonly elicit?: OpenSessionOptions["upstreams"]["elicit"];
}

/** One session over one engine, made from the configuration. */
export interface App extends AsyncDisposable {
  readonly session: Session;
  readonly logger: Logger;
  /** Begins to open the sandbox, removes those of dead owners and registers the servers of `--mcp-config`; never rejects. */
  start(): void;
}

/** What every command that touches the engine needs. */
export interface Ground {
  readonly workspace: Workspace;
  readonly owner: Owner;
  readonly engine: AdministeredEngine;
  readonly logger: Logger;
}

export async function openApp(config: Config, options: AppOptions = {}): Promise<App> {
  const servers = config.mcpConfig === undefined ? new Map<string, unknown>() : readServersFile(config.mcpConfig);
  await using stack = new ReleaseStack();
  const { workspace, owner, engine, logger } = await layGround(config, stack, options.onLog);
  if (owner.warning !== undefined) logger.warn(owner.warning);

  const envFile = config.envFile === undefined ? resolve(workspace.path, ".env") : resolve(config.envFile);
  const variables = async () => mergeVariables(process.env, await readEnvFile(envFile));
  kernelEnvironment(await variables()); // names that can't be are reported at the start, not at the first cell

  const session = stack.use(
    await openSession({
      engine,
      workspace,
      owner,
      mounts: await Promise.all(config.mount.map((mount) => checkMount(parseMount(mount, process.cwd()), places()))),
      shields: { mask: config.mask, protect: config.protect, unprotect: config.unprotect },
      memoryLimitBytes: config.memory,
      stateDir: stateDirectory(process.env),
      home: homedir(),
      env: process.env,
      variables,
      kernelEnvironment: async () => kernelEnvironment(await variables()),
      upstreams: {
        expose: config.expose,
        noRedact: config.noRedact,
        allowWorkspaceUpstream: config.allowWorkspaceUpstream,
        elicit: options.elicit,
      },
      packages: { indexUrl: config.indexUrl, extraIndexUrls: config.extraIndexUrl },
      egress: { allowDomain: config.allowDomain, allowPrivate: config.allowPrivate },
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

/** The engine alone, for commands without a session. */
export async function openEngine(config: Config): Promise<AdministeredEngine> {
  await using stack = new ReleaseStack();
  const { engine } = await layGround(config, stack);
  stack.move();
  return engine;
}

/** The workspace of a command that needs no engine. */
export function openConfiguredWorkspace(config: Config): Promise<Workspace> {
  return openWorkspace(config.workspace, { cwd: process.cwd(), ...places() });
}

async function layGround(config: Config, stack: ReleaseStack, onLog?: (record: LogRecord) => void): Promise<Ground> {
  const logger = createLogger({ level: config.logLevel, format: config.logFormat, ...(onLog && { onRecord: onLog }) });
  const workspace = await openConfiguredWorkspace(config);
  const owner = decideOwner({
    callerUid: process.getuid?.() ?? 1000,
    callerGid: process.getgid?.() ?? 1000,
    workspaceUid: workspace.uid,
    workspaceGid: workspace.gid,
  });
  const engine = stack.use(
    createDockerEngine({
      image: config.image,
      baseImage: config.baseImage,
      requirements: config.requirements === undefined ? undefined : resolve(config.requirements),
      uid: owner.uid,
      gid: owner.gid,
      limits: { memoryBytes: config.memory, cpus: config.cpus, pids: config.pids, tmpBytes: config.tmpSize },
      runtime: config.runtime,
      gpus: config.gpus,
      runtimeDir: runtimeDirectory(process.env),
      stateDir: stateDirectory(process.env),
      imagesDir: IMAGES_DIRECTORY,
      env: process.env,
      logger,
    }),
  );
  return { workspace, owner, engine, logger };
}

/** `images/` of this package, which lies beside `src/` and beside `dist/`. */
const IMAGES_DIRECTORY = resolve(dirname(fileURLToPath(import.meta.url)), "../images");

/** What no sandbox may see. */
function places() {
  const stateDir = stateDirectory(process.env);
  return {
    home: homedir(),
    stateDir,
    runDir: runtimeDirectory(process.env) ?? stateDir,
    engineSocket: "/var/run/docker.sock",
  };
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
