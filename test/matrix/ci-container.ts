import { execFile, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

import { TRUST } from "../helpers/all-in-one.ts";

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, "../..");
const IMAGE = "ipybox-test:ci";
const CA_BUNDLE = TRUST.SSL_CERT_FILE;

/** A container of a CI: `node` and `npm` in it, and `npm install ipybox` gets this checkout from `registry`. */
export class CiContainer implements AsyncDisposable {
  readonly #id: string;

  private constructor(id: string) {
    this.#id = id;
  }

  /** `options` are those of `docker run`, `command` what the container runs instead of waiting for steps. */
  static async start(options: readonly string[], command = ["tail", "-f", "/dev/null"]): Promise<CiContainer> {
    const trusted = Object.entries(TRUST).flatMap(([name, path]) => ["-e", `${name}=${path}`]);
    const own = ["-v", `${CA_BUNDLE}:${CA_BUNDLE}:ro`, "--add-host=registry:host-gateway"];
    const { stdout } = await run("docker", [
      "run",
      "--detach",
      "--init",
      ...own,
      ...trusted,
      ...options,
      IMAGE,
      ...command,
    ]);
    return new CiContainer(stdout.trim());
  }

  /** Runs a script, which must succeed, and resolves to what it printed. */
  async shell(script: string, options: readonly string[] = []): Promise<string> {
    const command = ["exec", ...options, this.#id, "sh", "-e", "-c", script];
    return (await run("docker", command, { maxBuffer: 2 ** 26 })).stdout;
  }

  /** On the engine's default network. */
  async address(): Promise<string> {
    const { stdout } = await run("docker", ["inspect", "--format", "{{.NetworkSettings.IPAddress}}", this.#id]);
    return stdout.trim();
  }

  /** Resolves when it says `text` on stderr. */
  async said(text: string): Promise<void> {
    const logs = spawn("docker", ["logs", "--follow", this.#id], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    for await (const chunk of logs.stderr) {
      said += String(chunk);
      if (said.includes(text)) return void logs.kill();
    }
    throw new Error(`the container ended:\n${said}`);
  }

  /** Gives the engine in this container an image of this machine's. */
  async load(image: string): Promise<void> {
    const load = "curl -sSf --unix-socket /var/run/docker.sock -T - -o /dev/null -X POST http://engine/images/load";
    const script = `docker save "$1" | docker exec -i "$2" ${load} -H Content-Type:application/x-tar`;
    await run("bash", ["-o", "pipefail", "-c", script, "bash", image, this.#id]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("docker", ["rm", "--force", "--volumes", this.#id]);
  }
}

/** Makes the image of these containers, and resolves to Debian's base image that it is made from. */
export async function buildCiImage(): Promise<string> {
  const { stdout } = await run(join(import.meta.dirname, "build-ci-image.sh"), [IMAGE], { maxBuffer: 2 ** 26 });
  return stdout.trim();
}

/** A package registry that has this checkout as `ipybox`, and everything else where it is. Reached as `registry`. */
export interface Registry extends Disposable {
  /** For `docker run`. */
  readonly options: readonly string[];
}

/** Packs the checkout into `directory` and serves it. */
export async function serveRegistry(directory: string): Promise<Registry> {
  const npm = (...args: string[]) => execFileSync("npm", args, { cwd: directory, encoding: "utf8" }).trim();
  const tarball = readFileSync(join(directory, npm("pack", ROOT, "--ignore-scripts", "--silent")));
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { name: string; version: string };
  const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
  const upstream = npm("config", "get", "registry");
  const server = createServer((request, response) => {
    const path = request.url ?? "/";
    if (path === "/ipybox.tgz") return response.end(tarball);
    if (path !== `/${manifest.name}`) return response.writeHead(302, { location: new URL(path, upstream).href }).end();
    const version = { ...manifest, dist: { tarball: `${address}/ipybox.tgz`, integrity } };
    const versions = { [manifest.version]: version };
    return response.end(JSON.stringify({ name: manifest.name, "dist-tags": { latest: manifest.version }, versions }));
  });
  server.listen(0, "0.0.0.0");
  await once(server, "listening");
  const address = `http://registry:${(server.address() as AddressInfo).port}`; // it listens on a port
  return {
    options: ["-e", `npm_config_registry=${address}/`],
    [Symbol.dispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}
