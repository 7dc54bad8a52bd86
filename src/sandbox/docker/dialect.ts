import type { ContainerCreateOptions, HostConfig } from "dockerode";
import { z } from "zod";
import type { DockerClient } from "./client.ts";

/** Every difference between engines that speak Docker's API is in this file: Docker, rootless Docker, Podman. */
export interface EngineTraits extends z.infer<typeof infoSchema> {
  readonly podman: boolean;
  /** The engine belongs to a user, and its containers' users are mapped to those that this user was given. */
  readonly rootless: boolean;
}

/** As whom cells run, inside of a container. */
export interface InsideUser {
  readonly uid: number;
  readonly gid: number;
}

const infoSchema = z.object({
  NCPU: z.number().positive().catch(Infinity),
  MemTotal: z.number().positive().catch(Infinity),
  MemoryLimit: z.boolean().default(false),
  PidsLimit: z.boolean().default(false),
  CpuCfsQuota: z.boolean().default(false),
  CgroupVersion: z.string().default("1"),
  SecurityOptions: z.array(z.string()).nullable().default([]),
  /** Podman alone says which version of its builder it has. */
  BuildahVersion: z.string().optional(),
  /** Podman's word; Docker's is a security option. */
  Rootless: z.boolean().default(false),
});

/** Where other limits are given and not this one, Podman sets one so high that not every root may. */
const MANY_PROCESSES = { Name: "nproc", Soft: 16_384, Hard: 16_384 };

/** What the removal of a container is called in events. Podman's is the second; filters of events know its own words alone. */
export const REMOVAL_EVENTS = ["destroy", "remove"] as const;

/** Asks the engine what it is. */
export async function readTraits(client: DockerClient): Promise<EngineTraits> {
  const info = infoSchema.parse(await client.ask(client.api.info()));
  return {
    ...info,
    podman: info.BuildahVersion !== undefined,
    rootless: info.Rootless || hasSecurityOption(info, "rootless"),
  };
}

/** Security options read `name=seccomp,profile=default`. */
export function hasSecurityOption(traits: Pick<EngineTraits, "SecurityOptions">, name: string): boolean {
  return (traits.SecurityOptions ?? []).some((option) => option.split(",").includes(`name=${name}`));
}

/** Limits that the engine takes without a word and does not apply, in words. */
export function limitsWithoutEffect(traits: EngineTraits): string[] {
  if (ignoresLimits(traits)) return ["rootless on cgroup v1: the engine ignores every limit"];
  return [
    ...(traits.MemoryLimit ? [] : ["memory is not limited"]),
    ...(traits.PidsLimit ? [] : ["the number of processes is not limited"]),
    ...(traits.CpuCfsQuota ? [] : ["CPU time is not limited"]),
  ];
}

/**
 * As whom cells run, so that what they write belongs to `owner` on the host. Rootless Docker maps its user to 0 inside;
 * Podman is told to keep it ({@link inDialect}).
 */
export function userInside({ podman, rootless }: EngineTraits, { uid, gid }: InsideUser): InsideUser {
  return rootless && !podman ? { uid: 0, gid: 0 } : { uid, gid };
}

/** The same container in the engine's own words. */
export function inDialect(
  traits: EngineTraits,
  create: ContainerCreateOptions,
  user: InsideUser,
): ContainerCreateOptions {
  if (!traits.podman) return create;
  const { PidsLimit, ...host }: HostConfig = create.HostConfig ?? {};
  return {
    ...create,
    HostConfig: {
      ...host,
      Tmpfs: inPodmansWords(host.Tmpfs),
      Ulimits: [...(host.Ulimits ?? []), MANY_PROCESSES],
      ...(traits.rootless ? { UsernsMode: `keep-id:uid=${user.uid},gid=${user.gid}` } : {}),
      ...(ignoresLimits(traits) || PidsLimit === undefined ? {} : { PidsLimit }), // which is refused there
    },
  };
}

/** gVisor takes 10 s to end a container that is paused, and leaves a process on the host for it. */
export function endsInsteadOfPausing(runtime: string | undefined): boolean {
  return /runsc|gvisor/i.test(runtime ?? "");
}

/** A reference to an image without the registry that Podman puts before those that have none. */
export function shortReference(reference: string): string {
  return reference.replace(/^(?:docker\.io\/library|localhost)\//, "");
}

/** There a tmpfs has the mode of the image's directory below it, and its owner is no number: `U` is the container's user. */
function inPodmansWords(tmpfs: Record<string, string> = {}): Record<string, string> {
  const translate = (option: string) =>
    option.startsWith("uid=") ? ["U"] : /^(?:gid|mode)=/.test(option) ? [] : [option];
  const translateAll = (options: string) => options.split(",").flatMap(translate).join(",");
  return Object.fromEntries(Object.entries(tmpfs).map(([path, options]) => [path, translateAll(options)]));
}

function ignoresLimits({ rootless, CgroupVersion }: EngineTraits): boolean {
  return rootless && CgroupVersion === "1";
}
