import { spawn, type ChildProcessByStdio } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { IpyboxError, messageOf } from "../../common/errors.ts";
import type { PrepareOptions } from "../engine.ts";
import { BuildFailure, followBuild } from "./build-output.ts";
import type { DockerClient } from "./client.ts";
import { LABEL } from "./labels.ts";

export interface BaseImageOptions {
  /** What the kernel image is built on, as the user names it. */
  readonly reference: string;
  readonly imagesDir: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export const BASE_REPOSITORY = "ipybox-base";
const KEPT_LINES = 20;
/** The script installs packages as root: nothing but the system's programs. */
const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSED_ON =
  /^(https?_proxy|no_proxy|all_proxy|ssl_cert_file|curl_ca_bundle|lang|lc_all|tmpdir|ipybox_debian_.*)$/i;

/** A reference to the base image that the engine has: it is there, or pulled, or, for Debian, made by debootstrap. */
export async function ensureBaseImage(
  client: DockerClient,
  base: BaseImageOptions,
  options: PrepareOptions,
): Promise<string> {
  if (await hasImage(client, base.reference)) return base.reference;
  const bootstrapped = await bootstrapTag(base);
  if (bootstrapped !== undefined && (await hasImage(client, bootstrapped))) return bootstrapped;
  try {
    await pullImage(client, base.reference, options);
    return base.reference;
  } catch (error) {
    options.signal.throwIfAborted();
    if (error instanceof IpyboxError && error.code === "engine-unreachable") throw error;
    if (bootstrapped === undefined) throw notPulled(base.reference, error);
    options.onProgress({ message: `${base.reference} can't be pulled; making a Debian base instead` });
    await bootstrap(client, base, bootstrapped, options);
    return bootstrapped;
  }
}

/** Tag of the base that {@link ensureBaseImage} would make; undefined for references that are no plain Debian. */
export async function bootstrapTag(base: BaseImageOptions): Promise<string | undefined> {
  const suite = debianSuite(base.reference);
  if (suite === undefined) return undefined;
  const script = await readFile(scriptPath(base));
  return `${BASE_REPOSITORY}:${suite}-${createHash("sha256").update(script).digest("hex").slice(0, 12)}`;
}

export async function hasImage(client: DockerClient, reference: string): Promise<boolean> {
  return (await client.find(client.api.inspectImage(reference))) !== undefined;
}

/** Rejects with the registry's or the engine's own reason. */
export async function pullImage(client: DockerClient, reference: string, options: PrepareOptions): Promise<void> {
  options.onProgress({ message: `pulling ${reference}` });
  const named = /[:@][^/]*$/.test(reference) ? reference : `${reference}:latest`; // without a tag the engine pulls all
  const stream = await client.ask(client.api.pullImage(named, options.signal));
  await client.ask(followBuild(stream, () => undefined));
}

function notPulled(reference: string, cause: unknown): IpyboxError {
  return new IpyboxError("image-build-failed", `The base image ${reference} can't be pulled: ${messageOf(cause)}`, {
    hint: "Check the reference and the network, or load the image into the engine (docker load) and call again.",
    cause,
  });
}

function debianSuite(reference: string): string | undefined {
  return /^(?:docker\.io\/)?(?:library\/)?debian:([a-z]+)(?:-slim)?$/.exec(reference)?.[1];
}

function scriptPath(base: BaseImageOptions): string {
  return join(base.imagesDir, "bootstrap-base.sh");
}

async function bootstrap(
  client: DockerClient,
  base: BaseImageOptions,
  tag: string,
  options: PrepareOptions,
): Promise<void> {
  const child = spawn("/bin/bash", [scriptPath(base), "--stdout"], {
    env: scriptEnvironment(base),
    stdio: ["ignore", "pipe", "pipe"],
    signal: options.signal,
    killSignal: "SIGTERM",
  });
  const tail: string[] = [];
  const messages = createInterface({ input: child.stderr });
  messages.on("line", (line) => {
    tail.push(line);
    if (tail.length > KEPT_LINES) tail.shift();
    options.onProgress({ message: line.replace(/^\[base\] /, "") });
  });
  const tar = new PassThrough();
  const results = await Promise.allSettled([
    exitOf(child),
    pipeline(child.stdout, tar),
    client
      .ask(
        client.api.importImage(
          tar,
          { repo: tag, changes: [`LABEL ${LABEL.image}=base`, 'CMD ["bash"]'] },
          options.signal,
        ),
      )
      .then((stream) => followBuild(stream, () => undefined)),
  ]);
  options.signal.throwIfAborted();
  const failed = results.find((result) => result.status === "rejected");
  if (!failed) return;
  // A truncated tar may have been imported as an image.
  await client.find(client.api.removeImage(tag));
  throw new IpyboxError(
    "image-build-failed",
    `The base image ${base.reference} can't be pulled, and making one failed: ${messageOf(failed.reason)}\n${tail.join("\n")}`,
    {
      hint: "Give the engine a Debian image (docker load, or --base-image with a registry it reaches), or run `ipybox build` as root once.",
      cause: failed.reason,
    },
  );
}

function scriptEnvironment(base: BaseImageOptions): Record<string, string> {
  const passed = Object.entries(base.env).flatMap(([name, value]) =>
    PASSED_ON.test(name) && value !== undefined ? [[name, value] as const] : [],
  );
  return {
    ...Object.fromEntries(passed),
    PATH: SYSTEM_PATH,
    HOME: "/root",
    IPYBOX_DEBIAN_SUITE: base.env["IPYBOX_DEBIAN_SUITE"] ?? debianSuite(base.reference) ?? "",
  };
}

function exitOf(child: ChildProcessByStdio<null, Readable, Readable>): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) resolve();
      else reject(new BuildFailure(`the script ended with ${signal ?? `exit code ${code ?? "unknown"}`}`, ""));
    });
  });
}
