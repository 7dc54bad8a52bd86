import { randomBytes } from "node:crypto";
import { chown, mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import Docker from "dockerode";
import { ReleaseStack } from "../../../src/common/lifecycle.ts";
import { silentLogger } from "../../../src/common/logger.ts";
import type { Sandbox, SandboxSpec, SandboxWorkspace } from "../../../src/sandbox/engine.ts";
import type { AdministeredEngine } from "../../../src/sandbox/engine-admin.ts";
import { createDockerEngine, type DockerEngineOptions } from "../../../src/sandbox/engines.ts";
import type { EngineUnderTest } from "../../contract/engine/describe-engine.ts";

export const IMAGES_DIRECTORY = fileURLToPath(new URL("../../../images", import.meta.url));
export const UID = process.getuid?.() === 0 ? 1000 : (process.getuid?.() ?? 1000);
export const GID = process.getgid?.() === 0 ? 1000 : (process.getgid?.() ?? 1000);
export const docker = new Docker();

/** An engine on the real Docker, which knows what it made: workspaces, volumes, containers. */
export interface DockerUnderTest extends EngineUnderTest {
  readonly engine: AdministeredEngine;
  readonly stack: ReleaseStack;
  readonly runtimeDir: string;
  makeWorkspace(parent?: string): Promise<SandboxWorkspace>;
  newSpec(overrides?: Partial<SandboxSpec>): Promise<SandboxSpec>;
}

export async function makeDockerUnderTest(options: Partial<DockerEngineOptions> = {}): Promise<DockerUnderTest> {
  const stack = new ReleaseStack();
  const scratch = await mkdtemp(join(tmpdir(), "ipybox-t-"));
  stack.defer(() => rm(scratch, { recursive: true, force: true }));
  const runtimeDir = join(scratch, "run");
  const workspaces: string[] = [];
  const engine = createDockerEngine({
    baseImage: "debian:trixie-slim",
    uid: UID,
    gid: GID,
    limits: { memoryBytes: 1024 ** 3, cpus: 2, pids: 256, tmpBytes: 64 * 1024 ** 2 },
    // Shared by all test files, so that one of them builds the image and the others wait for it.
    stateDir: fileURLToPath(new URL("../../../node_modules/.cache/ipybox-tests", import.meta.url)),
    imagesDir: IMAGES_DIRECTORY,
    link: "socket",
    runtime: process.env["IPYBOX_RUNTIME"], // the whole suite under another one
    runtimeDir,
    env: process.env,
    logger: silentLogger,
    ...options,
  });
  stack.use(engine);

  const makeWorkspace = async (parent = scratch) => {
    const path = await realpath(await mkdtemp(join(parent, "ws-")));
    stack.defer(() => rm(path, { recursive: true, force: true }));
    if (process.getuid?.() === 0) await chown(path, UID, GID);
    const key = `test-${randomBytes(6).toString("hex")}`;
    stack.defer(() => removeVolume(`ipybox-packages-${key}`));
    workspaces.push(path);
    return { path, key, masked: [], protected: [] };
  };
  return {
    engine,
    stack,
    runtimeDir,
    makeWorkspace,
    newSpec: async (overrides = {}) => ({
      sessionId: randomBytes(8).toString("hex"),
      workspace: await makeWorkspace(),
      mounts: [],
      ...overrides,
    }),
    askBridge: async (sandbox, line) => (await runInside(sandbox, ["python3", "-c", ASK_BRIDGE, line])).output.trim(),
    kill: (sandbox) => docker.getContainer(`ipybox-${sandbox.id}`).kill(),
    leftovers: async () => {
      const containers = await docker.listContainers({ all: true, filters: { label: ["io.ipybox.workspace"] } });
      return containers
        .filter((container) => workspaces.includes(container.Labels["io.ipybox.workspace"] ?? ""))
        .flatMap((container) => container.Names);
    },
    [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
  };
}

/** Runs a program in the sandbox as its user and resolves to what it printed, both streams. */
export async function runInside(sandbox: Sandbox, command: string[]): Promise<{ code: number; output: string }> {
  const container = docker.getContainer(`ipybox-${sandbox.id}`);
  const exec = await container.exec({ Cmd: command, AttachStdout: true, AttachStderr: true, Tty: true });
  const stream = await exec.start({ Tty: true });
  let output = "";
  for await (const chunk of stream) output += String(chunk);
  const { ExitCode } = await exec.inspect();
  return { code: ExitCode ?? -1, output: output.replaceAll("\r\n", "\n") };
}

const ASK_BRIDGE = `
import os, socket, sys
with socket.socket(socket.AF_UNIX) as bridge:
    path = "/run/ipybox/tools.sock"
    bridge.connect(path if os.path.exists(path) else "\\0ipybox/tools")
    bridge.sendall(sys.argv[1].encode() + b"\\n")
    print(bridge.makefile().readline(), end="")
`;

async function removeVolume(name: string): Promise<void> {
  try {
    await docker.getVolume(name).remove();
  } catch (error) {
    if (!(error instanceof Error && "statusCode" in error && error.statusCode === 404)) throw error;
  }
}
