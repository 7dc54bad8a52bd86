import { posix } from "node:path";
import type { MountSettings } from "dockerode";
import type { ExtraMount, SandboxWorkspace, TaskStorage } from "../engine.ts";
import type { ShieldedPlace } from "../link/control-connection.ts";
import { toBindSource, toSlashForm } from "../windows-paths.ts";
import { packageVolume, type SandboxRole } from "./labels.ts";
import type { Crossing } from "../link/link.ts";

/** Paths inside a container; docs/architecture.md, "Inside a sandbox". */
export const INSIDE = {
  workspace: "/workspace",
  run: "/run/ipybox",
  kernels: "/run/ipybox-kernels",
  home: "/home/ipybox",
  packages: "/opt/ipybox/packages",
  scratch: "/opt/ipybox/scratch",
} as const;

/** A workspace at or below one of these would hide what the image needs. */
const RESERVED_TREES = [
  ...["/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr"],
  ...[INSIDE.workspace, "/opt/ipybox"],
];
/** These must not be hidden themselves; below them there is room (tmpfs, or nothing of the image). */
const RESERVED_DIRECTORIES = ["/", "/home", INSIDE.home, "/opt", "/root", "/tmp", "/var", "/var/lib", "/var/tmp"];

/** The engine's own; what the types of its API ask for. */
const NO_DRIVER = { Name: "", Options: {} };

export interface MountPlan {
  readonly role: SandboxRole;
  readonly workspace: SandboxWorkspace;
  readonly extra: readonly ExtraMount[];
  /** Of a task. */
  readonly storage?: TaskStorage | undefined;
  /** User inside; decides whether the image's /root can be passed through. */
  readonly uid: number;
  readonly crossing: Crossing;
  readonly mounted: MountedWorkspace;
}

/** What is mounted in the places of the workspace. */
export type MountedWorkspace =
  /** Itself, with a file over each masked one; the engine's own path of it, or ours, as the crossing is. */
  | { readonly type: "host"; readonly emptyFile: string }
  /** A volume with a copy, which has nothing in it to shield. */
  | { readonly type: "copy"; readonly volume: string }
  | { readonly type: "nothing" };

/** Where the workspace is inside: its own path, or `/workspace` alone where that would hide a part of the image. */
export function workspacePathInside(hostPath: string, uid: number): string {
  return fitsInside(hostPath, uid) ? hostPath : INSIDE.workspace;
}

/**
 * Every mount of a container but its tmpfs. An installer sees the workspace and all else read-only, or nothing of it,
 * and writes the packages or a scratch; a session the other way round. The engine orders mounts by depth, so what is
 * listed last lies on top only where it is deeper.
 */
export function toMounts(plan: MountPlan): MountSettings[] {
  return [
    ...toWorkspaceMounts(plan),
    ...(plan.crossing.type === "socket" ? [bind(plan.crossing.runDirectory, INSIDE.run, true)] : []),
    volume(packageVolume(plan.workspace.key), INSIDE.packages, plan.storage?.writes !== "packages"),
    ...(plan.storage?.scratch
      ? [volume(plan.storage.scratch.name, INSIDE.scratch, plan.storage.writes !== "scratch")]
      : []),
  ];
}

/** What init is to find mounted, in each place of the workspace. */
export function toShieldedPlaces(plan: Pick<MountPlan, "role" | "workspace" | "extra" | "uid">): ShieldedPlace[] {
  const places = toPlaces(plan);
  const taken = new Set(places.map(({ target }) => target));
  return places.map((place) => {
    const { pinned, shielded, masked } = toShields(place, plan.workspace);
    const inPlace = (path: string) => posix.relative(place.source, path);
    const bound = [...pinned, ...shielded].map(inPlace).filter((path) => !taken.has(posix.join(place.target, path)));
    return { place: place.target, bound, masked: masked.map(inPlace) };
  });
}

function toWorkspaceMounts(plan: MountPlan): MountSettings[] {
  switch (plan.mounted.type) {
    case "host":
      return toHostMounts(plan, plan.mounted.emptyFile);
    case "copy":
      return toCopyMounts(plan, plan.mounted.volume);
    case "nothing":
      return [];
  }
}

function toHostMounts(plan: MountPlan, emptyFile: string): MountSettings[] {
  const places = toPlaces(plan);
  const taken = new Set(places.map(({ target }) => target));
  const shields = places.flatMap((place) => toShieldMounts(place, plan.workspace, emptyFile));
  return [
    ...places.map(({ source, target, readOnly }) => bind(source, target, readOnly)),
    ...shields.filter(({ Target }) => !taken.has(Target)).filter(isFirstAtItsTarget),
  ];
}

/**
 * An empty volume takes its owner from the image's directory where it is mounted. At the workspace's own path that is
 * a directory of root's, which the engine made to be the working directory: in whichever order it comes, it must not
 * count.
 */
function toCopyMounts({ role, workspace, uid }: MountPlan, name: string): MountSettings[] {
  return rootsInside(workspace.path, uid).map((target) => ({
    ...volume(name, target, role === "installer"),
    ...(target === INSIDE.workspace ? {} : { VolumeOptions: { NoCopy: true, Labels: {}, DriverConfig: NO_DRIVER } }),
  }));
}

/** A host directory and where it is inside. */
interface Place {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

function toPlaces({ role, workspace, extra, uid }: Pick<MountPlan, "role" | "workspace" | "extra" | "uid">): Place[] {
  const installing = role === "installer";
  return [
    ...rootsInside(workspace.path, uid).map((target) => ({
      source: toSlashForm(workspace.path),
      target,
      readOnly: installing,
    })),
    ...extra.map((mount) => ({
      ...mount,
      source: toSlashForm(mount.source),
      readOnly: installing || mount.readOnly,
    })),
  ];
}

function rootsInside(hostPath: string, uid: number): string[] {
  return [...new Set([workspacePathInside(hostPath, uid), INSIDE.workspace])];
}

/**
 * What lies on top of a place: an empty file over each masked one, each protected path read-only, and, bound onto
 * themselves, the directories on the way to both. A mount point can't be renamed, so none of them can be moved away
 * and rebuilt by the sandbox. Inside a protected directory nothing can be renamed anyway.
 */
function toShields(place: Place, workspace: SandboxWorkspace) {
  const inPlace = (path: string) => isBelow(path, place.source);
  const masked = workspace.masked.map(toSlashForm).filter(inPlace);
  const shielded = workspace.protected.map(toSlashForm).filter((path) => inPlace(path) && !masked.includes(path));
  const ancestors = new Set([...masked, ...shielded].flatMap((path) => directoriesBetween(place.source, path)));
  const pinned = [...ancestors].filter((path) => !shielded.some((root) => path === root || isBelow(path, root)));
  return { pinned: pinned.sort(), shielded, masked };
}

function toShieldMounts(place: Place, workspace: SandboxWorkspace, emptyFile: string): MountSettings[] {
  const { pinned, shielded, masked } = toShields(place, workspace);
  const at = (path: string) => posix.join(place.target, posix.relative(place.source, path));
  return [
    ...pinned.map((path) => bind(path, at(path), place.readOnly)),
    ...shielded.map((path) => bind(path, at(path), true)),
    ...masked.map((path) => mask(emptyFile, at(path))),
  ];
}

/** The directories below `root` that lead to `path`, which is below it. */
function directoriesBetween(root: string, path: string): string[] {
  const parent = posix.dirname(path);
  return parent === root ? [] : [...directoriesBetween(root, parent), parent];
}

function isBelow(path: string, directory: string): boolean {
  return path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

/** A mount of the workspace's own parent makes the same shields once more, and a pin where the workspace itself is. */
function isFirstAtItsTarget(mount: MountSettings, index: number, mounts: readonly MountSettings[]): boolean {
  return mounts.findIndex(({ Target }) => Target === mount.Target) === index;
}

function fitsInside(hostPath: string, uid: number): boolean {
  if (!posix.isAbsolute(hostPath) || RESERVED_DIRECTORIES.includes(hostPath)) return false;
  // The image's /root is 0700 and belongs to UID 0, who has no capabilities either.
  const trees = uid === 0 ? RESERVED_TREES : [...RESERVED_TREES, "/root"];
  return !trees.some((tree) => hostPath === tree || hostPath.startsWith(`${tree}/`));
}

function volume(name: string, target: string, readOnly: boolean): MountSettings {
  return { Type: "volume", Source: name, Target: target, ReadOnly: readOnly };
}

/** Of what lies in its own directories, an engine admits no propagation but its default. */
function mask(emptyFile: string, target: string): MountSettings {
  return { Type: "bind", Source: toBindSource(emptyFile), Target: target, ReadOnly: true };
}

/** `Mounts`, never `Binds`: those create a missing source as root. */
function bind(source: string, target: string, readOnly: boolean): MountSettings {
  return {
    Type: "bind",
    Source: toBindSource(source),
    Target: target,
    ReadOnly: readOnly,
    BindOptions: { Propagation: "rprivate" },
  };
}
