import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, watch, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { currentProcess, formatIdentity } from "../../../src/common/process-identity.ts";
import { type DockerUnderTest, docker, GID, IMAGES_DIRECTORY, makeDockerUnderTest, UID } from "./docker-harness.ts";
import { makeImagesDirectory } from "./fixture-image.ts";

const signal = new AbortController().signal;
const REPOSITORY = fileURLToPath(new URL("../../..", import.meta.url));
let subject: DockerUnderTest;
let image = "";
beforeAll(async () => {
  subject = await makeDockerUnderTest();
  image = await subject.engine.buildImage({ signal, onProgress: () => undefined });
}, 900_000);
afterAll(() => subject[Symbol.asyncDispose]());

/** A container with our labels and without a lifeline, as a crash of the machine's other programs may leave it. */
async function makeContainer(owner: string, workspace = "/nowhere/at/all"): Promise<{ id: string; name: string }> {
  const id = `test-${randomBytes(6).toString("hex")}`;
  const container = await docker.createContainer({
    name: `ipybox-${id}`,
    Image: image,
    Entrypoint: ["sleep", "600"],
    Labels: {
      "io.ipybox.session": id,
      "io.ipybox.owner": owner,
      "io.ipybox.workspace": workspace,
      "io.ipybox.role": "session",
    },
    HostConfig: { NetworkMode: "none" },
  });
  subject.stack.defer(() => container.remove({ force: true }).catch(() => undefined));
  await container.start();
  return { id, name: `ipybox-${id}` };
}

const names = async () => (await subject.engine.listSandboxes()).map((sandbox) => sandbox.id);

describe("orphans", () => {
  const self = currentProcess();
  const owners = {
    dead: formatIdentity({ ...self, startTime: "1" }),
    alive: formatIdentity(self),
    foreign: formatIdentity({ ...self, machine: "another" }),
  };

  it("are those whose owner is dead, of this machine and PID namespace; only they are removed", async () => {
    const [dead, alive, foreign, odd] = await Promise.all(
      [owners.dead, owners.alive, owners.foreign, "nonsense"].map((owner) => makeContainer(owner)),
    );
    const states = new Map((await subject.engine.listSandboxes()).map((sandbox) => [sandbox.id, sandbox]));
    expect([dead, alive, foreign, odd].map((made) => states.get(made?.id ?? "")?.owner)).toEqual([
      "dead",
      "alive",
      "unknown",
      "unknown",
    ]);
    expect(states.get(alive?.id ?? "")).toMatchObject({ ownerPid: process.pid, role: "session" });
    expect(states.get(alive?.id ?? "")?.memoryBytes).toBeGreaterThan(0);

    expect(await subject.engine.reapOrphans()).toBeGreaterThanOrEqual(1);
    const left = await names();
    expect(left).not.toContain(dead?.id);
    expect(left).toEqual(expect.arrayContaining([alive?.id, foreign?.id, odd?.id]));
  });

  it("are pruned, with the packages of workspaces that are gone", async () => {
    // An image user of its own: nobody's kernel images are old because of this test.
    await using pruner = await makeDockerUnderTest({ gid: 54_321 });
    const { name } = await makeContainer(owners.dead);
    const kept = await subject.newSpec();
    const sandbox = await subject.engine.launch(kept, { signal, onBridgeConnection: (stream) => stream.destroy() });
    await sandbox[Symbol.asyncDispose]();
    const volume = `ipybox-packages-test-${randomBytes(6).toString("hex")}`;
    const labels = { "io.ipybox.workspace": "/nowhere/at/all", "io.ipybox.machine": currentProcess().machine };
    await docker.createVolume({ Name: volume, Labels: labels });
    const foreign = `${volume}-foreign`;
    await docker.createVolume({ Name: foreign, Labels: { ...labels, "io.ipybox.machine": "another" } });
    subject.stack.defer(() => docker.getVolume(foreign).remove());

    const report = await pruner.engine.prune({ all: false });
    expect(report.sandboxes).toContain(name);
    expect(report.volumes).toContain(volume);
    expect(report.volumes).not.toContain(foreign);
    expect(report.volumes).not.toContain(`ipybox-packages-${kept.workspace.key}`);
  });
});

describe("a server that is killed", () => {
  let build: string;
  let runtimeDir: string;
  beforeAll(async () => {
    const cache = join(REPOSITORY, "node_modules/.cache");
    await mkdir(cache, { recursive: true });
    build = await mkdtemp(join(cache, "ipybox-killed-"));
    subject.stack.defer(() => rm(build, { recursive: true }));
    await promisify(execFile)("npx", ["tsc", "-p", "tsconfig.build.json", "--outDir", build], { cwd: REPOSITORY });
    await mkdir(subject.runtimeDir, { recursive: true });
    runtimeDir = await mkdtemp(join(subject.runtimeDir, "killed-"));
  });

  /** Runs `statement` on an engine in a process of its own. */
  const startServer = async (options: object, statement: string) => {
    const path = join(build, `server-${randomBytes(4).toString("hex")}.js`);
    await writeFile(path, serverSource({ runtimeDir, ...options }, statement));
    return spawn(process.execPath, [path], { stdio: ["ignore", "pipe", "inherit"] });
  };

  it("leaves no container and no directory", async () => {
    const spec = await subject.newSpec();
    const server = await startServer(
      {},
      `await engine.launch(${JSON.stringify(spec)}, { signal, onBridgeConnection: (stream) => stream.destroy() });`,
    );
    await once(createInterface({ input: server.stdout }), "line");
    const removed = docker.getContainer(`ipybox-${spec.sessionId}`).wait({ condition: "removed" });
    expect(await readdir(runtimeDir)).toHaveLength(1);
    server.kill("SIGKILL");
    await removed;
    await untilEmpty(runtimeDir);
    expect(await names()).not.toContain(spec.sessionId);
  });

  it("while it builds the image takes the build's container with it", async () => {
    const word = `build-${randomBytes(8).toString("hex")}`;
    const imagesDir = await makeImagesDirectory(subject.stack, {
      Dockerfile: `ARG BASE_IMAGE\nFROM \${BASE_IMAGE}\nENTRYPOINT []\nRUN echo ${word}; sleep 600\n`,
    });
    const server = await startServer(
      { imagesDir, baseImage: image },
      "await engine.buildImage({ signal, onProgress: () => undefined });",
    );
    const building = async () =>
      (await docker.listContainers({ all: true })).filter(({ Command }) => Command.includes(word));
    await expect.poll(building, { timeout: 60_000 }).toMatchObject([{ State: "running" }]);
    server.kill("SIGKILL");
    await expect.poll(building, { timeout: 5000 }).toEqual([]);
  });
});

function serverSource(given: { readonly runtimeDir: string }, statement: string): string {
  const options = {
    baseImage: "debian:trixie-slim",
    uid: UID,
    gid: GID,
    limits: { memoryBytes: 1024 ** 3, cpus: 2, pids: 256, tmpBytes: 64 * 1024 ** 2 },
    stateDir: join(given.runtimeDir, "..", "state"),
    imagesDir: IMAGES_DIRECTORY,
    link: "auto",
    ...given,
  };
  return `
    import { createDockerEngine } from "./sandbox/engines.js";
    import { silentLogger } from "./common/logger.js";
    const engine = createDockerEngine({ ...${JSON.stringify(options)}, env: process.env, logger: silentLogger });
    const signal = new AbortController().signal;
    ${statement}
    console.log("up");
  `;
}

async function untilEmpty(directory: string): Promise<void> {
  const controller = new AbortController();
  const events = watch(directory, { signal: controller.signal })[Symbol.asyncIterator]();
  let next = events.next();
  while (existsSync(directory) && (await readdir(directory)).length > 0) {
    await next;
    next = events.next();
  }
  next.catch(() => undefined);
  controller.abort();
}
