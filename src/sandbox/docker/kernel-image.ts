import { join } from "node:path";
import { IpyboxError, messageOf } from "../../common/errors.ts";
import { withHostLock } from "../../common/host-lock.ts";
import type { PrepareOptions } from "../engine.ts";
import { hashSources, type KernelBuildOptions, type KernelSources, readRequirements } from "../kernel-sources.ts";
import { ensureBaseImage, hasImage, pullImage } from "./base-image.ts";
import { packContext } from "./build-context.ts";
import { proxyArguments, readCaBundle } from "../build-host.ts";
import { BuildFailure, followBuild } from "./build-output.ts";
import type { DockerClient } from "./client.ts";
import { LABEL } from "./labels.ts";

export interface KernelImageOptions extends KernelBuildOptions {
  /** Use this image and never build. */
  readonly image?: string | undefined;
  readonly baseImage: string;
  readonly uid: number;
  readonly gid: number;
}

export const KERNEL_REPOSITORY = "ipybox-kernel";

/** The tag of the kernel image, which says what is in it: the same content and user, the same tag. */
export async function kernelImageTag(options: KernelImageOptions): Promise<string> {
  return options.image ?? `${KERNEL_REPOSITORY}:${await hashSources(await toContext(options))}`;
}

/** Resolves to the tag of the kernel image once the engine has it: at once, or after building it. */
export async function ensureKernelImage(
  client: DockerClient,
  options: KernelImageOptions,
  prepare: PrepareOptions,
): Promise<string> {
  if (options.image !== undefined) return await ensureGivenImage(client, options.image, prepare);
  const context = await toContext(options);
  const hash = await hashSources(context);
  const tag = `${KERNEL_REPOSITORY}:${hash}`;
  if (await hasImage(client, tag)) return tag;

  const lock = {
    signal: prepare.signal,
    onWaiting: () =>
      prepare.onProgress({ message: "another ipybox process is building the kernel image; waiting for it" }),
  };
  // Where the lock is lost, two processes build the same image at worst.
  return await withHostLock(join(options.stateDir, "locks", `image-${hash}`), lock, async () => {
    if (await hasImage(client, tag)) return tag;
    const base = { reference: options.baseImage, imagesDir: options.imagesDir, env: options.env };
    const baseReference = await ensureBaseImage(client, base, prepare);
    await build(client, { ...options, tag, context, baseReference }, prepare);
    return tag;
  });
}

/** Label that tells whose image it is: `prune` leaves the images of other users alone. */
export function userLabel(options: { readonly uid: number; readonly gid: number }): string {
  return `${LABEL.image}.user=${options.uid}:${options.gid}`;
}

async function toContext(options: KernelImageOptions): Promise<KernelSources> {
  return {
    directory: join(options.imagesDir, "kernel"),
    arguments: { BASE_IMAGE: options.baseImage, UID: `${options.uid}`, GID: `${options.gid}` },
    requirements: options.requirements === undefined ? undefined : await readRequirements(options.requirements),
  };
}

async function ensureGivenImage(client: DockerClient, image: string, prepare: PrepareOptions): Promise<string> {
  if (await hasImage(client, image)) return image;
  try {
    await pullImage(client, image, prepare);
    return image;
  } catch (cause) {
    prepare.signal.throwIfAborted();
    if (cause instanceof IpyboxError && cause.code === "engine-unreachable") throw cause;
    throw new IpyboxError(
      "image-build-failed",
      `The image ${image} is not there and can't be pulled: ${messageOf(cause)}`,
      {
        hint: "Check --image, or leave it out: the kernel image is then built.",
        cause,
      },
    );
  }
}

interface BuildPlan extends KernelImageOptions {
  readonly tag: string;
  readonly context: KernelSources;
  readonly baseReference: string;
}

async function build(client: DockerClient, plan: BuildPlan, prepare: PrepareOptions): Promise<void> {
  const bundle = await readCaBundle(plan.env);
  const [userKey = "", userValue = ""] = userLabel(plan).split("=");
  try {
    const stream = await client.ask(
      client.api.buildImage(
        await packContext(plan.context, bundle.pem),
        {
          t: plan.tag,
          buildargs: { ...proxyArguments(plan.env), ...plan.context.arguments, BASE_IMAGE: plan.baseReference },
          labels: { [LABEL.image]: "kernel", [userKey]: userValue },
        },
        prepare.signal,
      ),
    );
    await client.ask(followBuild(stream, prepare.onProgress));
  } catch (cause) {
    prepare.signal.throwIfAborted();
    if (!(cause instanceof BuildFailure)) throw cause;
    throw new IpyboxError(
      "image-build-failed",
      `The kernel image can't be built: ${cause.message}\n${cause.lastLines}`,
      {
        hint: "Read the lines above; `ipybox doctor` checks registries, proxies and certificates, `ipybox build` tries again.",
        cause,
      },
    );
  }
}
