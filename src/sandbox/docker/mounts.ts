import { posix } from "node:path";
import type { MountSettings } from "dockerode";
import type { ExtraMount, SandboxWorkspace } from "../engine.ts";
import { packageVolume, type SandboxRole } from "./labels.ts";

/** Paths inside a container; docs/architecture.md, "Inside a sandbox". */
export const INSIDE = {
  workspace: "/workspace",
  run: "/run/ipybox",
  kernels: "/run/ipybox-kernels",
  home: "/home/ipybox",
  packages: "/opt/ipybox/packages",
} as const;

/** A workspace at or below one of these would hide what the image needs. */
const RESERVED_TREES = [
  ...["/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr"],
  ...[INSIDE.workspace, "/opt/ipybox"],
];
/** These must not be hidden themselves; below them there is room (tmpfs, or nothing of the image). */
const RESERVED_DIRECTORIES = ["/", "/home", INSIDE.home, "/opt", "/root", "/tmp", "/var", "/var/lib", "/var/tmp"];

export interface MountPlan {
  readonly role: SandboxRole;
  readonly workspace: SandboxWorkspace;
  readonly extra: readonly ExtraMount[];
  /** User inside; decides whether the image's /root can be passed through. */
  readonly uid: number;
  /** Run directory on the host. */
  readonly runDirectory: string;
  /** An empty read-only file on the host, mounted over masked files. */
  readonly emptyFile: string;
}

/** Where the workspace is inside: its own path, or `/workspace` alone where that would hide a part of the image. */
export function workspacePathInside(hostPath: string, uid: number): string {
  return fitsInside(hostPath, uid) ? hostPath : INSIDE.workspace;
}

/**
 * Every mount of a container but its tmpfs. An installer sees the workspace and all else read-only, and writes the
 * packages; a session the other way round. The engine orders mounts by depth, so what is listed last lies on top only
 * where it is deeper.
 */
export function toMounts(plan: MountPlan): MountSettings[] {
  const { workspace } = plan;
  const installing = plan.role === "installer";
  const roots = [...new Set([workspacePathInside(workspace.path, plan.uid), INSIDE.workspace])];
  const atEachRoot = (path: string) => roots.map((root) => posix.join(root, posix.relative(workspace.path, path)));
  const masked = new Set(workspace.masked);
  return [
    ...roots.map((root) => bind(workspace.path, root, installing)),
    ...workspace.protected
      .filter((path) => !masked.has(path))
      .flatMap((path) => atEachRoot(path).map((target) => bind(path, target, true))),
    ...workspace.masked.flatMap((path) => atEachRoot(path).map((target) => bind(plan.emptyFile, target, true))),
    ...plan.extra.map((mount) => bind(mount.source, mount.target, installing || mount.readOnly)),
    bind(plan.runDirectory, INSIDE.run, true),
    {
      Type: "volume",
      Source: packageVolume(workspace.key),
      Target: INSIDE.packages,
      ReadOnly: !installing,
    },
  ];
}

function fitsInside(hostPath: string, uid: number): boolean {
  if (!posix.isAbsolute(hostPath) || RESERVED_DIRECTORIES.includes(hostPath)) return false;
  // The image's /root is 0700 and belongs to UID 0, who has no capabilities either.
  const trees = uid === 0 ? RESERVED_TREES : [...RESERVED_TREES, "/root"];
  return !trees.some((tree) => hostPath === tree || hostPath.startsWith(`${tree}/`));
}

/** `Mounts`, never `Binds`: those create a missing source as root. */
function bind(source: string, target: string, readOnly: boolean): MountSettings {
  return { Type: "bind", Source: source, Target: target, ReadOnly: readOnly, BindOptions: { Propagation: "rprivate" } };
}
