import { z } from "zod";
import { messageOf } from "../../common/errors.ts";
import { attemptCheck, checkCertificates, LINK_NOT_TRIED } from "../checks.ts";
import type { Diagnosis } from "../engine-admin.ts";
import { bootstrapTag, hasImage } from "./base-image.ts";
import type { DockerClient } from "./client.ts";
import type { SandboxLimits } from "./isolation.ts";
import {
  type EngineTraits,
  hasSecurityOption,
  type InsideUser,
  limitsWithoutEffect,
  readTraits,
  userInside,
} from "./dialect.ts";
import { type KernelImageOptions, kernelImageTag } from "./kernel-image.ts";

export interface DiagnosisOptions extends KernelImageOptions {
  readonly limits: SandboxLimits;
  /** Starts a sandbox and removes it. Tried only where the kernel image is there. */
  readonly checkLink: () => Promise<Diagnosis>;
}

/** API version of Docker Engine 20.10. */
const MIN_API = [1, 41] as const;

const versionSchema = z.object({ Version: z.string(), ApiVersion: z.string() });

/** What `ipybox doctor` says about a Docker Engine. Never rejects: what can't be checked is a failure. */
export async function diagnoseDocker(client: DockerClient, options: DiagnosisOptions): Promise<Diagnosis[]> {
  const engine = await attempt("engine", () => checkEngine(client));
  if (engine.status === "fail") return [engine];
  const image = await attempt("image", () => checkImage(client, options));
  return [
    engine,
    await attempt("limits", async () => checkLimits(await readTraits(client), options)),
    await attempt("user", async () => checkUser(await readTraits(client), options)),
    await attempt("certificates", () => checkCertificates("image builds trust", options.env)),
    image,
    image.status === "ok" ? await attempt("link", options.checkLink) : LINK_NOT_TRIED,
  ];
}

function attempt(name: string, check: () => Promise<Diagnosis>): Promise<Diagnosis> {
  return attemptCheck(name, check, "See the log of the container engine.");
}

async function checkEngine(client: DockerClient): Promise<Diagnosis> {
  const version = versionSchema.parse(await client.ask(client.api.version()));
  const detail = `${version.Version} (API ${version.ApiVersion}) at ${client.address}`;
  const [major = 0, minor = 0] = version.ApiVersion.split(".").map(Number);
  const tooOld = major < MIN_API[0] || (major === MIN_API[0] && minor < MIN_API[1]);
  return tooOld
    ? { name: "engine", status: "fail", detail, remedy: "Install Docker Engine 20.10 or newer." }
    : { name: "engine", status: "ok", detail };
}

function checkLimits(traits: EngineTraits, { limits }: DiagnosisOptions): Diagnosis {
  const problems = [
    ...limitsWithoutEffect(traits),
    ...(hasSecurityOption(traits, "seccomp") ? [] : ["the engine applies no seccomp profile"]),
    ...(limits.memoryBytes > traits.MemTotal ? ["the memory limit is more than the engine has"] : []),
  ];
  return problems.length === 0
    ? {
        name: "limits",
        status: "ok",
        detail: `memory, CPU and processes are limited (cgroup v${traits.CgroupVersion})`,
      }
    : {
        name: "limits",
        status: "warn",
        detail: problems.join("; "),
        remedy: "Enable these cgroup controllers for the engine, or use another engine.",
      };
}

function checkUser(traits: EngineTraits, owner: InsideUser): Diagnosis {
  const { uid, gid } = userInside(traits, owner);
  const detail = `cells run as ${uid}:${gid}`;
  if (traits.rootless) {
    return { name: "user", status: "ok", detail: `${detail}, which is the engine's own user ${owner.uid} on the host` };
  }
  if (hasSecurityOption(traits, "userns")) {
    return {
      name: "user",
      status: "warn",
      detail: `${detail}, which this engine maps to another user of the host`,
      remedy: "Use an engine without user namespaces, or a workspace that this user may write.",
    };
  }
  if (uid !== 0) return { name: "user", status: "ok", detail };
  return {
    name: "user",
    status: "warn",
    detail: `${detail}: root, without capabilities`,
    remedy: "Let another user own the workspace.",
  };
}

async function checkImage(client: DockerClient, options: DiagnosisOptions): Promise<Diagnosis> {
  const tag = await kernelImageTag({ ...options, ...userInside(await readTraits(client), options) });
  if (await hasImage(client, tag)) return { name: "image", status: "ok", detail: `${tag} is there` };
  const remedy = "Run `ipybox build`, or let the first start build it.";
  if (options.image !== undefined) {
    return {
      name: "image",
      status: "fail",
      detail: `${tag} is not there`,
      remedy: "Pull or build it, or leave out --image.",
    };
  }
  const base = { reference: options.baseImage, imagesDir: options.imagesDir, env: options.env };
  if (await hasImage(client, options.baseImage)) {
    return {
      name: "image",
      status: "warn",
      detail: `${tag} is not built yet; its base ${options.baseImage} is there`,
      remedy,
    };
  }
  const bootstrapped = await bootstrapTag(base);
  if (bootstrapped !== undefined && (await hasImage(client, bootstrapped))) {
    return {
      name: "image",
      status: "warn",
      detail: `${tag} is not built yet; its base ${bootstrapped} is there`,
      remedy,
    };
  }
  try {
    await client.api.inspectDistribution(options.baseImage);
    return {
      name: "image",
      status: "warn",
      detail: `${tag} is not built yet; a registry has ${options.baseImage}`,
      remedy,
    };
  } catch (error) {
    const detail = `${tag} is not built yet, and no registry gives ${options.baseImage}: ${messageOf(error)}`;
    return bootstrapped !== undefined && process.geteuid?.() === 0
      ? { name: "image", status: "warn", detail, remedy: `${remedy} Its base is then made by debootstrap.` }
      : {
          name: "image",
          status: "fail",
          detail,
          remedy: "Load a base image into the engine (docker load), or run `ipybox build` as root once.",
        };
  }
}
