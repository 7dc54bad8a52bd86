import { existsSync } from "node:fs";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { livenessOf } from "../../common/process-identity.ts";
import type { PruneReport, SandboxListing } from "../engine-admin.ts";
import type { SandboxRecords } from "./sandbox-records.ts";
import { removeScratches } from "./scratches.ts";

/** Beside the volume with a workspace's packages, where no sandbox writes: the path of the workspace. */
const WORKSPACE_FILE = "workspace";

/** The sandboxes that run, whatever became of their owners. */
export async function listSandboxes(records: SandboxRecords): Promise<SandboxListing[]> {
  const running = (await records.list()).filter(({ init }) => livenessOf(init) !== "dead");
  return running.map((record) => ({
    id: record.id,
    session: record.session,
    role: record.role,
    workspace: record.workspace,
    owner: livenessOf(record.owner),
    ownerPid: record.owner.pid,
    ageMs: Math.max(0, Date.now() - record.startedAt),
    memoryBytes: undefined,
  }));
}

/** Ends what is left of sandboxes whose owner is dead, and of those that ended without a word; resolves to their ids. */
export async function removeOrphans(records: SandboxRecords): Promise<string[]> {
  const all = await records.list();
  return await records.remove(all.filter(({ owner }) => livenessOf(owner) === "dead"));
}

/** The directory of a workspace's packages, which says whose they are. */
export async function notePackages(directory: string, workspace: string): Promise<void> {
  await writeFile(join(directory, WORKSPACE_FILE), workspace, { mode: 0o600 });
}

export interface PruneOptions {
  readonly all: boolean;
  readonly dataDir: string;
  /** Directory of the environment that stays. */
  readonly current: string;
}

/** Removes orphans, environments that are neither current nor in use, and packages of workspaces that are gone. */
export async function prune(records: SandboxRecords, options: PruneOptions): Promise<PruneReport> {
  const sandboxes = options.all ? await records.remove(await records.list()) : await removeOrphans(records);
  await removeScratches(options.dataDir, options);
  const inUse = new Set((await records.list()).map(({ environment }) => basename(environment)));
  const environments = await entriesOf(join(options.dataDir, "environments"));
  const images = environments.filter((path) => path !== options.current && !inUse.has(basename(path)));
  const packages = await entriesOf(join(options.dataDir, "packages"));
  const gone = await Promise.all(packages.map(async (path) => options.all || !existsSync(await workspaceOf(path))));
  const volumes = packages.filter((_path, index) => gone[index]);
  for (const path of [...images, ...volumes]) await rm(path, { recursive: true, force: true });
  return { sandboxes, images, volumes };
}

async function workspaceOf(packages: string): Promise<string> {
  return await readFile(join(packages, WORKSPACE_FILE), "utf8").catch(() => packages);
}

/** But for environments that are being made. */
async function entriesOf(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => []);
  return names.filter((name) => !name.startsWith(".")).map((name) => join(directory, name));
}
