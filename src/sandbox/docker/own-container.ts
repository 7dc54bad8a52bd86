import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { posix } from "node:path";
import type { ContainerInspectInfo, MountSettings } from "dockerode";
import { IpyboxError } from "../../common/errors.ts";
import type { SandboxWorkspace } from "../engine.ts";
import type { DockerClient } from "./client.ts";

/** A mount of the container that this process runs in: its source is a path of the engine's host, or empty. */
export type OwnMount = Pick<ContainerInspectInfo["Mounts"][number], "Destination" | "Source" | "Type" | "RW">;

/** Files that engines mount into every container, from a directory named by its id. */
const ENGINE_FILE = /^\S+ \S+ \S+ \S*containers\/([0-9a-f]{64})\/\S* \/etc\/(?:hostname|hosts|resolv\.conf) /m;

/**
 * The mounts of our own container, when it is one of this very engine: its paths are not the engine's then. Undefined
 * outside of containers, and in containers of another engine (a nested one, one across the network).
 */
export async function findOwnMounts(client: DockerClient): Promise<readonly OwnMount[] | undefined> {
  const id = containerIdIn(await readFile("/proc/self/mountinfo", "utf8").catch(() => ""));
  if (id === undefined) return undefined;
  return (await client.find(client.api.inspectContainer(id)))?.Mounts;
}

/** The id of the container whose `/proc/self/mountinfo` this is. It holds whatever the container's hostname is. */
export function containerIdIn(mountinfo: string): string | undefined {
  return ENGINE_FILE.exec(mountinfo)?.[1];
}

/**
 * The workspace under the key of its path on the engine's host: many containers have theirs at the same path, and the
 * key names a volume of the engine. A server on that host gives the directory the same key.
 *
 * @throws IpyboxError `invalid-workspace` when the engine can't see it: it lies in this container alone.
 */
export function toEngineWorkspace(workspace: SandboxWorkspace, own: readonly OwnMount[]): SandboxWorkspace {
  const found = enginePath(workspace.path, own);
  if (found === undefined) throw notShared(workspace.path);
  return { ...workspace, key: createHash("sha256").update(found.path).digest("hex").slice(0, 16) };
}

/**
 * A bind mount of a sandbox with the source as the engine knows it. What this container can't write, its sandboxes
 * can't either.
 *
 * @throws IpyboxError `invalid-workspace` for a source that the engine can't see.
 */
export function toEngineMount(mount: MountSettings, own: readonly OwnMount[]): MountSettings {
  if (mount.Type !== "bind") return mount;
  const found = enginePath(mount.Source, own);
  if (found === undefined) throw notShared(mount.Source);
  return { ...mount, Source: found.path, ReadOnly: mount.ReadOnly === true || !found.writable };
}

/** Where the engine has what this container has at `path`; undefined where it has it nowhere. */
export function enginePath(
  path: string,
  own: readonly OwnMount[],
): { readonly path: string; readonly writable: boolean } | undefined {
  const around = own
    .filter(({ Destination }) => isAtOrBelow(path, Destination))
    .reduce<OwnMount | undefined>((deepest, mount) => (isDeeper(mount, deepest) ? mount : deepest), undefined);
  if (around === undefined || around.Source === "" || around.Type === "tmpfs") return undefined;
  return { path: posix.join(around.Source, posix.relative(around.Destination, path)), writable: around.RW };
}

function isAtOrBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith("/") ? directory : `${directory}/`);
}

function isDeeper(mount: OwnMount, than: OwnMount | undefined): boolean {
  return than === undefined || mount.Destination.length > than.Destination.length;
}

/** Sandboxes can't be given the sockets in a directory of this container, whose name is of one session. */
export function socketsNotShared(runDirectory: string): IpyboxError {
  const message = `Sockets in ${runDirectory} can't be shared: it is in this container only, where the engine can't see it`;
  return new IpyboxError("sandbox-start-failed", message, {
    hint:
      "Leave --link out, or mount a host directory or a volume where this server makes it when this container is started: " +
      "at $XDG_RUNTIME_DIR if that is set, else at /tmp.",
  });
}

/** The engine can't see a path of this container. */
function notShared(path: string): IpyboxError {
  return new IpyboxError("invalid-workspace", `${path} is in this container only, where the engine can't see it`, {
    hint: `Mount a host directory or a volume there when this container is started: docker run -v /path/on/host:${path} ...`,
  });
}
