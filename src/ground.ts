import { realpath, stat } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";

import { type AllInOneUsers, readAllInOneUsers } from "./all-in-one.ts";
import { IpyboxError } from "./common/errors.ts";
import { createLogger, type Logger, type LogRecord } from "./common/logger.ts";
import { runtimeDirectory, stateDirectory } from "./config/directories.ts";
import type { Config } from "./config/options.ts";
import { readServersFile } from "./config/servers-file.ts";
import { kernelEnvironment, mergeVariables } from "./config/variables.ts";
import { parseAllowRule } from "./egress/allow-list.ts";
import { resolveEndpoint } from "./sandbox/engine-endpoint.ts";
import type { ForbiddenPlaces } from "./workspace/dangerous-directories.ts";
import { readEnvFile } from "./workspace/env-file.ts";
import { checkMount, type Mount, parseMount, refuseReplaceableSources } from "./workspace/mounts.ts";
import { assertBelowWorkspace } from "./workspace/shield-rules.ts";
import { decideOwner, type Owner } from "./workspace/owner.ts";
import { isInReach } from "./workspace/reach.ts";
import { locateWorkspace, openWorkspace, type Workspace } from "./workspace/workspace.ts";

/** What a session stands on. Nothing of it is running yet, and it loads fast: what is slow to load is in app.ts. */
export interface Ground {
  readonly config: Config;
  readonly workspace: Workspace;
  readonly owner: Owner;
  /** Who runs what, when cells are processes beside the server in the all-in-one image. */
  readonly cellsBeside: AllInOneUsers | undefined;
  readonly mounts: readonly Mount[];
  /** Servers of `--mcp-config`, parameters unchecked. */
  readonly servers: ReadonlyMap<string, unknown>;
  /** The process environment over the env file, read anew at each call. */
  readonly variables: () => Promise<ReturnType<typeof mergeVariables>>;
  readonly logger: Logger;
}

/**
 * Checks what a configuration names on this host: workspace, mounts, env file, names of the kernel's variables.
 *
 * @throws IpyboxError `invalid-configuration`, `invalid-workspace`: the user has to mend it.
 */
export async function layGround(config: Config, onLog?: (record: LogRecord) => void): Promise<Ground> {
  const servers = config.mcpConfig === undefined ? new Map<string, unknown>() : readServersFile(config.mcpConfig);
  const logger = createLogger({ level: config.logLevel, format: config.logFormat, ...(onLog && { onRecord: onLog }) });
  await refuseAllAtOnce(checksOf(config));
  const workspace = await openConfiguredWorkspace(config);
  const mounts = await Promise.all(checkMounts(config));
  const cellsBeside = usersBeside(config);
  const owner = ownerOf(workspace, cellsBeside);
  if (owner.warning !== undefined) logger.warn(owner.warning);
  const envFile = await chooseEnvFile(config, workspace.path);
  const variables = async () => mergeVariables(process.env, envFile && (await readEnvFile(envFile, workspace.path)));
  return { config, workspace, owner, cellsBeside, mounts, servers, variables, logger };
}

/**
 * What {@link layGround} would say of a configuration, which may be incomplete: for one that is refused already, so that
 * the user is told everything at once. Makes nothing.
 */
export function findGroundProblems(config: Partial<Config>): Promise<string[]> {
  return problemsOf(checksOf(config));
}

/** The same for what only needs the workspace. */
export function findWorkspaceProblems(config: Partial<Config>): Promise<string[]> {
  return problemsOf([locate(config)]);
}

async function problemsOf(checks: readonly Promise<unknown>[]): Promise<string[]> {
  const refusal = await refuseAllAtOnce(checks).catch((error: unknown) => error);
  if (refusal === undefined) return [];
  if (!(refusal instanceof IpyboxError)) throw refusal as Error; // whatever was thrown
  return refusal.message.split("\n");
}

/** What can be said of a configuration before anything is made or started. */
function checksOf(config: Partial<Config>): Promise<unknown>[] {
  const { allowDomain = [], allowPrivate = [], mask = [], protect = [], unprotect = [], sandboxConfig } = config;
  const located = locate(config);
  const real = located.catch(() => undefined); // it is complained of by itself
  const mounts = checkMounts(config);
  const envFileText = real.then((place) => readConfiguredEnvFile(config, place));
  return [
    located,
    ...mounts,
    refuseReplaceable(mounts, real),
    real.then((place) => refuseForeignWorkspace(config, place)),
    envFileText,
    refuseReservedNames(envFileText),
    ...allowDomain.map(async (host) => Promise.resolve(parseAllowRule(host, "--allow-domain"))),
    ...allowPrivate.map(async (host) => Promise.resolve(parseAllowRule(host, "--allow-private"))),
    // A slash at its begin stands for the workspace.
    ...mask.map(async (glob) => assertBelowWorkspace("--mask", glob.replace(/^\/+/, ""), await real)),
    ...protect.map(async (path) => assertBelowWorkspace("--protect", path, await real)),
    ...unprotect.map(async (path) => assertBelowWorkspace("--unprotect", path, await real)),
    ...(sandboxConfig === undefined
      ? []
      : [import("./choose-engine.ts").then((to) => to.readSrtSettings(sandboxConfig))]),
  ];
}

async function locate(config: Partial<Config>): Promise<string> {
  return await locateWorkspace(config.workspace ?? ".", { cwd: process.cwd(), ...forbiddenPlaces(config) });
}

/** Mounts that are refused already are not looked at. */
async function refuseReplaceable(mounts: readonly Promise<Mount>[], workspace: Promise<string | undefined>) {
  const checked = await Promise.allSettled(mounts);
  const sound = checked.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  refuseReplaceableSources(sound, await workspace);
}

async function readConfiguredEnvFile(config: Partial<Config>, workspace: string | undefined) {
  const path = await chooseEnvFile(config, workspace);
  return path && (await readEnvFile(path, workspace));
}

/** Names that can't be are reported at the start, not at the first cell: those of the environment in any case. */
async function refuseReservedNames(envFileText: Promise<string | undefined>): Promise<void> {
  kernelEnvironment(mergeVariables(process.env, await envFileText.catch(() => undefined)));
}

function checkMounts(config: Partial<Config>): Promise<Mount>[] {
  const { mount: mounts = [] } = config;
  return mounts.map(async (mount) => checkMount(parseMount(mount, process.cwd()), forbiddenPlaces(config)));
}

/** Rejects with the problems of all checks, a line each: nobody wants to mend them one by one. */
async function refuseAllAtOnce(checks: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(checks);
  const errors = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
  const bug = errors.find((error) => !(error instanceof IpyboxError));
  if (bug !== undefined) throw bug as Error; // whatever was thrown
  const refusals = errors.filter((error) => error instanceof IpyboxError);
  if (refusals[0] === undefined) return;
  const hints = new Set(refusals.flatMap(({ hint }) => hint ?? []));
  const messages = new Set(refusals.map(({ message }) => message));
  throw new IpyboxError(refusals[0].code, [...messages].join("\n"), {
    hint: [...hints].join("; "),
    cause: refusals[0],
  });
}

export function openConfiguredWorkspace(config: Config): Promise<Workspace> {
  return openWorkspace(config.workspace, { cwd: process.cwd(), ...forbiddenPlaces(config) });
}

/** The users of the all-in-one image, unless its sandboxes are containers as elsewhere. */
export function usersBeside(config: Partial<Config>): AllInOneUsers | undefined {
  return config.sandbox === "none" ? readAllInOneUsers() : undefined;
}

/** To whom files in the workspace belong, and as whom cells run. */
export function ownerOf(workspace: Pick<Workspace, "uid" | "gid">, cellsBeside: AllInOneUsers | undefined): Owner {
  if (cellsBeside) return cellsBeside.kernel;
  return decideOwner({
    callerUid: process.getuid?.(),
    callerGid: process.getgid?.(),
    workspaceUid: workspace.uid,
    workspaceGid: workspace.gid,
  });
}

/** In the all-in-one image. A workspace that is missing is going to be made for whom it must belong to. */
async function refuseForeignWorkspace(config: Partial<Config>, workspace: string | undefined): Promise<void> {
  const user = usersBeside(config)?.kernel;
  const info = workspace === undefined ? undefined : await stat(workspace).catch(() => undefined);
  if (user === undefined || info === undefined || info.uid === user.uid) return;
  throw new IpyboxError(
    "invalid-workspace",
    `The workspace ${workspace} belongs to UID ${info.uid}, and this image runs cells as UID ${user.uid}`,
    {
      hint: `Build the image as the user with UID ${info.uid} (./docker-build.sh), or give that directory to UID ${user.uid}.`,
    },
  );
}

/** Beside cells, a file that they could read or plant is not loaded: that of the workspace never, another is refused. */
async function chooseEnvFile(config: Partial<Config>, workspace: string | undefined): Promise<string | undefined> {
  const cellsBeside = usersBeside(config);
  if (config.envFile === undefined)
    return (cellsBeside ?? workspace === undefined) ? undefined : join(workspace, ".env");
  const path = resolve(config.envFile);
  const found = await stat(path).catch(() => undefined);
  if (cellsBeside && found === undefined) return undefined; // it is complained of by itself
  if (cellsBeside && (await isInReach(path, cellsBeside.kernel))) {
    throw new IpyboxError("invalid-configuration", `--env-file: cells could read or replace ${path}`, {
      hint: "Give the file to `docker run --env-file` instead, or single variables with `-e NAME`.",
    });
  }
  return join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path));
}

/** What no sandbox may see. */
function forbiddenPlaces(config: Partial<Config>): ForbiddenPlaces {
  const runtime = runtimeDirectory(process.env);
  return {
    home: homedir(),
    stateDir: stateDirectory(process.env),
    // The second is how they are called where the first is not set, or not usable.
    runDirs: [...(runtime === undefined ? [] : [runtime]), join(tmpdir(), "ipybox-")],
    engineSocket: engineSocket(config),
  };
}

/** Without containers, it is no matter if the engine's address is wrong. */
function engineSocket({ sandbox = "docker" }: Partial<Config>): string | undefined {
  try {
    const endpoint = resolveEndpoint(process.env);
    return endpoint.type === "socket" ? endpoint.path : undefined;
  } catch (error) {
    if (sandbox === "docker") throw error;
    return undefined;
  }
}
