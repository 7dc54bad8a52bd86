import { existsSync } from "node:fs";
import type { ContainerInfo } from "dockerode";
import { z } from "zod";
import { livenessOf, parseIdentity } from "../../common/process-identity.ts";
import type { PruneReport, SandboxListing } from "../engine-admin.ts";
import { BASE_REPOSITORY } from "./base-image.ts";
import { type DockerClient, statusOf } from "./client.ts";
import { shortReference } from "./dialect.ts";
import { KERNEL_REPOSITORY } from "./kernel-image.ts";
import { LABEL, PACKAGE_VOLUME_PREFIX } from "./labels.ts";

export interface PruneOptions {
  readonly all: boolean;
  /** Tags that stay. */
  readonly currentImages: readonly string[];
  /** Label of the kernel images that are ours to remove. */
  readonly userLabel: string;
  /** Whose workspaces we can look for: an engine may serve several machines. */
  readonly machine: string;
}

const MASK_VOLUMES = { filters: { label: [`${LABEL.role}=mask`] } };

/** Every sandbox on the engine, oldest first, with its owner's state. */
export async function listSandboxes(client: DockerClient): Promise<SandboxListing[]> {
  const containers = await sandboxContainers(client, LABEL.session);
  const listings = await Promise.all(containers.map((container) => toListing(client, container)));
  return listings.sort((one, other) => other.ageMs - one.ageMs);
}

/**
 * Removes the sandboxes of dead owners of this machine and PID namespace, and the volumes that they worked in;
 * resolves to the names of the sandboxes.
 */
export async function removeOrphans(client: DockerClient): Promise<string[]> {
  const containers = await sandboxContainers(client);
  const removed = await removeContainers(
    client,
    containers.filter((container) => ownerOf(container).state === "dead"),
  );
  await removeWorkVolumes(client, { all: false });
  return removed;
}

/** Removes orphans, kernel and base images that are no longer current, and packages of workspaces that are gone. */
export async function pruneEngine(client: DockerClient, options: PruneOptions): Promise<PruneReport> {
  const sandboxes = options.all
    ? await removeContainers(client, await sandboxContainers(client))
    : await removeOrphans(client);
  return {
    sandboxes,
    images: [
      ...(await removeImages(client, KERNEL_REPOSITORY, options.userLabel, options.currentImages)),
      ...(await removeImages(client, BASE_REPOSITORY, `${LABEL.image}=base`, options.currentImages)),
    ],
    volumes: [
      ...(await removeWorkVolumes(client, options)),
      ...(await removePackageVolumes(client, options)),
      ...(options.all ? await removeVolumes(client, await client.ask(client.api.listVolumes(MASK_VOLUMES))) : []),
    ],
  };
}

async function sandboxContainers(client: DockerClient, label: string = LABEL.owner): Promise<ContainerInfo[]> {
  return await client.ask(client.api.listContainers({ all: true, filters: { label: [label] } }));
}

function ownerOf(container: Pick<ContainerInfo, "Labels">): {
  state: SandboxListing["owner"];
  pid: number | undefined;
} {
  const identity = parseIdentity(container.Labels[LABEL.owner] ?? "");
  return { state: identity ? livenessOf(identity) : "unknown", pid: identity?.pid };
}

async function toListing(client: DockerClient, container: ContainerInfo): Promise<SandboxListing> {
  const owner = ownerOf(container);
  return {
    id: nameOf(container).replace(/^ipybox-/, ""),
    session: container.Labels[LABEL.session] ?? "",
    role: container.Labels[LABEL.role] ?? "",
    workspace: container.Labels[LABEL.workspace] ?? "",
    owner: owner.state,
    ownerPid: owner.pid,
    ageMs: Math.max(0, Date.now() - container.Created * 1000),
    memoryBytes: await memoryOf(client, container.Id),
  };
}

const statsSchema = z.object({
  memory_stats: z.object({ usage: z.number(), stats: z.record(z.string(), z.number()).optional() }),
});

async function memoryOf(client: DockerClient, id: string): Promise<number | undefined> {
  const stats = await client.find(client.api.containerStats(id));
  const memory = statsSchema.safeParse(stats).data?.memory_stats;
  if (!memory) return undefined;
  // What the kernel could drop at once: the name of cgroup v1, then that of v2. The docker CLI subtracts the same.
  const cache = memory.stats?.["total_inactive_file"] ?? memory.stats?.["inactive_file"] ?? 0;
  return Math.max(0, memory.usage - cache);
}

async function removeContainers(client: DockerClient, containers: readonly ContainerInfo[]): Promise<string[]> {
  await Promise.all(
    containers.map((container) => tolerating([404, 409], client.ask(client.api.removeContainer(container.Id)))),
  );
  return containers.map(nameOf);
}

async function removeImages(
  client: DockerClient,
  repository: string,
  label: string,
  current: readonly string[],
): Promise<string[]> {
  const images = await client.ask(client.api.listImages({ filters: { label: [label] } }));
  const tags = images
    .flatMap((image) => (image.RepoTags ?? []).map(shortReference))
    .filter((tag) => tag.startsWith(`${repository}:`) && !current.includes(tag));
  const removed: string[] = [];
  for (const tag of tags) {
    // 409: a sandbox still runs on it
    if (await tolerating([404, 409], client.ask(client.api.removeImage(tag)))) removed.push(tag);
  }
  return removed;
}

/** Copies of workspaces, and scratches. */
async function removeWorkVolumes(client: DockerClient, options: Pick<PruneOptions, "all">): Promise<string[]> {
  const volumes = await client.ask(client.api.listVolumes({ filters: { label: [LABEL.owner] } }));
  const unneeded = volumes.filter((volume) => options.all || ownerOf(volume).state === "dead");
  return await removeVolumes(client, unneeded);
}

async function removePackageVolumes(client: DockerClient, options: PruneOptions): Promise<string[]> {
  const volumes = await client.ask(client.api.listVolumes({ filters: { label: [LABEL.workspace] } }));
  const unneeded = volumes.filter((volume) => {
    const workspace = volume.Labels[LABEL.workspace];
    if (!volume.Name.startsWith(PACKAGE_VOLUME_PREFIX) || workspace === undefined) return false;
    return options.all || (volume.Labels[LABEL.machine] === options.machine && !existsSync(workspace));
  });
  return await removeVolumes(client, unneeded);
}

async function removeVolumes(client: DockerClient, volumes: readonly { readonly Name: string }[]): Promise<string[]> {
  const removed: string[] = [];
  for (const volume of volumes) {
    // 409: a sandbox still uses it
    if (await tolerating([404, 409], client.ask(client.api.removeVolume(volume.Name)))) removed.push(volume.Name);
  }
  return removed;
}

/** Whether the request succeeded; refusals with one of the statuses are no errors. */
async function tolerating(statuses: readonly number[], request: Promise<unknown>): Promise<boolean> {
  try {
    await request;
    return true;
  } catch (error) {
    if (statuses.includes(statusOf(error) ?? 0)) return false;
    throw error;
  }
}

function nameOf(container: ContainerInfo): string {
  return container.Names[0]?.replace(/^\//, "") ?? container.Id;
}
