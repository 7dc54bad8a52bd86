import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { IpyboxError } from "./common/errors.ts";
import { createLogger, type Logger, type LogRecord } from "./common/logger.ts";
import { runtimeDirectory, stateDirectory } from "./config/directories.ts";
import type { Config } from "./config/options.ts";
import { readServersFile } from "./config/servers-file.ts";
import { kernelEnvironment, mergeVariables } from "./config/variables.ts";
import { resolveEndpoint } from "./sandbox/engine-endpoint.ts";
import type { ForbiddenPlaces } from "./workspace/dangerous-directories.ts";
import { readEnvFile } from "./workspace/env-file.ts";
import { checkMount, type Mount, parseMount, refuseReplaceableSources } from "./workspace/mounts.ts";
import { decideOwner, type Owner } from "./workspace/owner.ts";
import { openWorkspace, type Workspace } from "./workspace/workspace.ts";

/** What a session stands on. Nothing of it is running yet, and it loads fast: what is slow to load is in app.ts. */
export interface Ground {
  readonly config: Config;
  readonly workspace: Workspace;
  readonly owner: Owner;
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
  const opening = openConfiguredWorkspace(config);
  const checking = config.mount.map(async (mount) => checkMount(parseMount(mount, process.cwd()), forbiddenPlaces()));
  await refuseAllAtOnce([opening, ...checking]);
  const [workspace, mounts] = [await opening, await Promise.all(checking)];
  refuseReplaceableSources(mounts, workspace.path);
  const owner = ownerOf(workspace);
  if (owner.warning !== undefined) logger.warn(owner.warning);
  const envFile = config.envFile === undefined ? resolve(workspace.path, ".env") : resolve(config.envFile);
  const variables = async () => mergeVariables(process.env, await readEnvFile(envFile));
  kernelEnvironment(await variables()); // names that can't be are reported at the start, not at the first cell
  return { config, workspace, owner, mounts, servers, variables, logger };
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
  throw new IpyboxError(refusals[0].code, refusals.map(({ message }) => message).join("\n"), {
    hint: [...hints].join("; "),
    cause: refusals[0],
  });
}

export function openConfiguredWorkspace(config: Config): Promise<Workspace> {
  return openWorkspace(config.workspace, { cwd: process.cwd(), ...forbiddenPlaces() });
}

/** To whom files in the workspace belong. */
export function ownerOf(workspace: Workspace): Owner {
  return decideOwner({
    callerUid: process.getuid?.(),
    callerGid: process.getgid?.(),
    workspaceUid: workspace.uid,
    workspaceGid: workspace.gid,
  });
}

/** What no sandbox may see. */
function forbiddenPlaces(): ForbiddenPlaces {
  const endpoint = resolveEndpoint(process.env);
  const runtime = runtimeDirectory(process.env);
  return {
    home: homedir(),
    stateDir: stateDirectory(process.env),
    // The second is how they are called where the first is not set, or not usable.
    runDirs: [...(runtime === undefined ? [] : [runtime]), join(tmpdir(), "ipybox-")],
    engineSocket: endpoint.type === "socket" ? endpoint.path : undefined,
  };
}
