import type { ContainerCreateOptions, DeviceRequest, MountSettings } from "dockerode";
import type { ExtraMount, SandboxWorkspace, TaskStorage } from "../engine.ts";
import { type EngineTraits, inDialect } from "./dialect.ts";
import { LABEL, type SandboxRole } from "./labels.ts";
import type { Crossing } from "../link/link.ts";
import { INSIDE, type MountedWorkspace, toMounts, workspacePathInside } from "./mounts.ts";
import { type OwnMount, toEngineMount } from "./own-container.ts";

export interface SandboxLimits {
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly pids: number;
  /** Size of /tmp, and of home. */
  readonly tmpBytes: number;
}

/** What all containers of an engine have in common. */
export interface EngineWidePlan {
  readonly image: string;
  readonly owner: string;
  readonly uid: number;
  readonly gid: number;
  readonly limits: SandboxLimits;
  readonly traits: EngineTraits;
  readonly runtime: string | undefined;
  readonly gpus: number | "all" | undefined;
  /** Of the container that we run in ourselves, if it is one of this engine. */
  readonly ownMounts: readonly OwnMount[] | undefined;
}

export interface ContainerPlan extends EngineWidePlan {
  /** Unique on the engine: names the container. */
  readonly id: string;
  readonly sessionId: string;
  readonly role: SandboxRole;
  readonly workspace: SandboxWorkspace;
  readonly extraMounts: readonly ExtraMount[];
  readonly storage?: TaskStorage | undefined;
  readonly crossing: Crossing;
  readonly mounted: MountedWorkspace;
}

/** The whole of a sandbox's walls, as the engine is told: nothing else decides what a container may do. */
export function toCreateOptions(plan: ContainerPlan): ContainerCreateOptions {
  const { limits, uid, gid, traits } = plan;
  const owned = `uid=${uid},gid=${gid},mode=0700`;
  const create = {
    name: containerName(plan.id),
    Image: plan.image,
    Hostname: "ipybox",
    User: `${uid}:${gid}`,
    WorkingDir: plan.mounted.type === "nothing" ? INSIDE.home : workspacePathInside(plan.workspace.path, uid),
    Env: [],
    Tty: false,
    ...(plan.crossing.type === "exec" ? INIT_WITH_RELAY : { OpenStdin: false }),
    Labels: {
      [LABEL.session]: plan.sessionId,
      [LABEL.owner]: plan.owner,
      [LABEL.workspace]: plan.workspace.path,
      [LABEL.role]: plan.role,
    },
    HostConfig: {
      AutoRemove: true,
      Init: false, // PID 1 is our own init, which nothing inside can stop
      Privileged: false,
      NetworkMode: "none",
      IpcMode: "private",
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"], // and no seccomp or AppArmor option: the engine's default profiles hold
      ReadonlyRootfs: true,
      Memory: limits.memoryBytes,
      MemorySwap: limits.memoryBytes, // memory and swap together: no swap
      NanoCpus: Math.round(Math.min(limits.cpus, traits.NCPU) * 1e9), // an engine refuses more than it has
      PidsLimit: limits.pids,
      Ulimits: [
        { Name: "nofile", Soft: 16_384, Hard: 16_384 },
        { Name: "core", Soft: 0, Hard: 0 },
      ],
      Tmpfs: {
        "/tmp": `rw,exec,nosuid,nodev,size=${limits.tmpBytes},mode=1777`,
        [INSIDE.home]: `rw,exec,nosuid,nodev,size=${limits.tmpBytes},${owned}`,
        [INSIDE.kernels]: `rw,noexec,nosuid,nodev,size=16m,${owned}`,
      },
      Mounts: toEngineMounts(plan),
      LogConfig: plan.crossing.type === "exec" ? NO_LOG : SMALL_LOG,
      ...(plan.runtime === undefined ? {} : { Runtime: plan.runtime }),
      ...(plan.gpus === undefined ? {} : { DeviceRequests: [gpuRequest(plan.gpus)] }),
    },
  };
  return inDialect(traits, create, { uid, gid });
}

/** Its stdin ends with our connection to the engine, so a server that dies takes the sandbox with it. */
const INIT_WITH_RELAY = { Cmd: ["--relay=abstract"], OpenStdin: true, StdinOnce: true };
const SMALL_LOG = { Type: "json-file", Config: { "max-size": "1m", "max-file": "1" } };
/** Stdout is the carrier: a log of it would be a copy of everything that crosses. Stderr is read as it comes. */
const NO_LOG = { Type: "none", Config: {} };

/** Every mount, with sources as the engine knows them. */
function toEngineMounts(plan: ContainerPlan): MountSettings[] {
  const { crossing, mounted, ownMounts } = plan;
  const mounts = toMounts({ ...plan, extra: plan.extraMounts });
  if (ownMounts === undefined) return mounts;
  const enginesOwn = crossing.type === "exec" && mounted.type === "host" ? mounted.emptyFile : undefined;
  return mounts.map((mount) => (mount.Source === enginesOwn ? mount : toEngineMount(mount, ownMounts)));
}

function containerName(id: string): string {
  return `ipybox-${id}`;
}

function gpuRequest(gpus: number | "all"): DeviceRequest {
  return { Driver: "", Count: gpus === "all" ? -1 : gpus, DeviceIDs: [], Capabilities: [["gpu"]], Options: {} };
}
