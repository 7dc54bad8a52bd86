import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";

import { TestClient, TestDirectory } from "./client.ts";

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, "../..");
const TAG = "ipybox-test:all-in-one";
const CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt";
/** Of a container of the tests: nobody else's bears it. */
const LABEL = `io.ipybox.test=${randomBytes(8).toString("hex")}`;

/** What programs in a container of the tests trust, this machine's certificates among it. */
export const TRUST = { NODE_EXTRA_CA_CERTS: CA_BUNDLE, SSL_CERT_FILE: CA_BUNDLE };

/** The all-in-one image of this checkout. Building it again costs seconds. */
export class AllInOneImage {
  /** As whom its cells run. */
  readonly user: { readonly uid: number; readonly gid: number };

  private constructor(user: { uid: number; gid: number }) {
    this.user = user;
  }

  static async build(): Promise<AllInOneImage> {
    await run(join(ROOT, "docker-build.sh"), ["-t", TAG], { maxBuffer: 2 ** 26 });
    const { stdout } = await run("docker", ["run", "--rm", "--entrypoint", "id", TAG, "ipybox"]);
    const [, uid, gid] = /uid=(\d+)\S* gid=(\d+)/.exec(stdout) ?? [];
    return new AllInOneImage({ uid: Number(uid), gid: Number(gid) });
  }

  /** A workspace of the user for whom the image was built. */
  makeWorkspace(directory: TestDirectory, name = "workspace"): string {
    const workspace = directory.make(name);
    if (process.getuid?.() === 0) chownSync(workspace, this.user.uid, this.user.gid);
    return workspace;
  }

  /** Arguments of docker; `options` are docker's, `args` the program's. */
  command(workspace: string, options: readonly string[] = [], args: readonly string[] = []): string[] {
    const trusted = Object.entries(TRUST).flatMap(([name, path]) => ["-e", `${name}=${path}`]);
    const mounts = ["-v", `${workspace}:/app/workspace`, "-v", `${CA_BUNDLE}:${CA_BUNDLE}:ro`];
    return ["run", "-i", "--rm", "--label", LABEL, ...mounts, ...trusted, ...options, TAG, ...args];
  }

  /** A client of a container of its own. */
  async connect(directory: TestDirectory, workspace: string, options: readonly string[] = []): Promise<TestClient> {
    const bin = join(directory.path, `start-${randomBytes(4).toString("hex")}`);
    const quoted = this.command(workspace, options).map((word) => `'${word}'`);
    writeFileSync(bin, `#!/bin/sh\nexec docker ${quoted.join(" ")}\n`); // without the workspace that clients name
    chmodSync(bin, 0o755);
    return await TestClient.connect({ bin, directory, workspace });
  }

  /** A volume for what `npx` and `uvx` fetch, which its caller removes, and what `docker run` is told of it. */
  async makeCache(): Promise<{ readonly volume: string; readonly options: readonly string[] }> {
    const { stdout } = await run("docker", ["volume", "create", "--label", LABEL]);
    const volume = stdout.trim();
    return { volume, options: ["-v", `${volume}:/home/ipybox-mcp`] };
  }

  /** A PATH whose docker takes `ipybox` for this image: what bears that name on this machine is its user's. */
  pathThatKnowsIt(directory: TestDirectory): string {
    const path = process.env["PATH"] ?? "";
    const docker = join(directory.make("docker-with-ipybox"), "docker");
    const rename = `for word do shift; [ "$word" = ipybox ] && word=${TAG}; set -- "$@" "$word"; done`;
    writeFileSync(docker, `#!/bin/sh\n${rename}\nPATH='${path}' exec docker "$@"\n`, { mode: 0o755 });
    return [dirname(docker), path].join(delimiter);
  }

  /** Ids of the containers of these tests. */
  async containers(): Promise<string[]> {
    const { stdout } = await run("docker", ["ps", "--all", "--quiet", "--no-trunc", "--filter", `label=${LABEL}`]);
    return stdout.split("\n").filter((id) => id !== "");
  }

  /** What a command in the image prints, without the server and its walls. */
  async output(program: string, ...args: string[]): Promise<string> {
    return (await run("docker", ["run", "--rm", "--entrypoint", program, TAG, ...args])).stdout;
  }
}
