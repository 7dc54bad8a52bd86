import { randomBytes } from "node:crypto";

/** Labels on everything we make: what sweep, `ps` and `prune` go by. */
export const LABEL = {
  /** On containers: the session's id. */
  session: "io.ipybox.session",
  /** On containers, work volumes and scratches: the process that made it, as common/process-identity formats it. */
  owner: "io.ipybox.owner",
  /** On containers and package volumes: the workspace's path on the host. */
  workspace: "io.ipybox.workspace",
  /** On package volumes: the machine that the workspace's path is of, as common/process-identity names it. */
  machine: "io.ipybox.machine",
  /** On containers: `session` or `installer`; on the volume of the empty file: `mask`. */
  role: "io.ipybox.role",
  /** On images: `kernel` or `base`. */
  image: "io.ipybox.image",
} as const;

export type SandboxRole = "session" | "installer";

/** The name of the volume with a workspace's packages. */
export function packageVolume(workspaceKey: string): string {
  return `ipybox-packages-${workspaceKey}`;
}

/** The name of the volume with one sandbox's copy of the workspace. It is unique: a sandbox begins with an empty one. */
export function newWorkVolume(sessionId: string): string {
  return `ipybox-work-${sessionId}-${randomBytes(4).toString("hex")}`;
}

/** The name of the volume in which a task builds, and from which the next one takes it over. */
export function newScratchVolume(sessionId: string): string {
  return `ipybox-scratch-${sessionId}-${randomBytes(4).toString("hex")}`;
}

/** The name of the volume with the one file that lies over masked ones. */
export const EMPTY_VOLUME = "ipybox-empty";

export const PACKAGE_VOLUME_PREFIX = packageVolume("");
