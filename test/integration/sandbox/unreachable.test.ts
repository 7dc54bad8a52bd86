import { mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createLogger } from "../../../src/common/logger.ts";
import { makeDockerUnderTest } from "./docker-harness.ts";

const ENGINE_SOCKET = "/var/run/docker.sock";
const quiet = { signal: new AbortController().signal, onProgress: () => undefined };

let scratch = "";
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "test-engine-"));
});
afterEach(() => rm(scratch, { recursive: true }));

/** A way to the engine that can be cut and mended, as if the engine was stopped and started. */
class Cable {
  readonly path: string;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(path: string) {
    this.path = path;
  }

  async mend(): Promise<void> {
    this.#server = createServer((incoming) => {
      const outgoing = connect(ENGINE_SOCKET);
      for (const socket of [incoming, outgoing]) {
        this.#sockets.add(socket);
        socket.on("error", () => undefined).once("close", () => this.#sockets.delete(socket));
      }
      incoming.pipe(outgoing).pipe(incoming);
    }).listen(this.path);
    await once(this.#server, "listening");
  }

  async cut(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

describe("an engine that ignores limits", () => {
  it("is told of when a sandbox is first wanted, once, and by doctor", async () => {
    const path = join(scratch, "docker.sock");
    const answers = new Map<string, unknown>([
      ["info", { ID: "test", NCPU: 2, MemTotal: 4e9, CgroupVersion: "1", SecurityOptions: ["name=rootless"] }],
      ["version", { Version: "20.10.24", ApiVersion: "1.41" }],
    ]);
    const engine = createHttpServer((request, response) => {
      const answer = answers.get(request.url?.split("/").at(-1) ?? "");
      response.writeHead(answer === undefined ? 404 : 200, { "content-type": "application/json" });
      response.end(JSON.stringify(answer ?? { message: "there is nothing here" }));
    }).listen(path);
    await once(engine, "listening");
    const told: string[] = [];
    const enough = new AbortController();
    const write = (line: string) => {
      if (line.includes("limits have no effect")) told.push(line);
      enough.abort(); // the image, which is not there, need not be built
    };
    const logger = createLogger({ level: "warn", format: "text", write });
    await using subject = await makeDockerUnderTest({ env: { DOCKER_HOST: `unix://${path}` }, logger });
    for (const signal of [enough.signal, AbortSignal.abort()]) {
      await expect(subject.engine.prepare({ ...quiet, signal })).rejects.toThrow();
    }
    const words = expect.stringContaining("rootless on cgroup v1: the engine ignores every limit") as unknown;
    expect(told).toEqual([words]);
    const diagnoses = await subject.engine.diagnose({ path: "/", key: "none" });
    expect(diagnoses).toContainEqual(expect.objectContaining({ name: "limits", status: "warn", detail: words }));
    engine.close();
  });
});

describe("an engine that does not answer", () => {
  it("is an error with the address and a hint, and is found again when it comes", async () => {
    const cable = new Cable(join(scratch, "docker.sock"));
    await using subject = await makeDockerUnderTest({ env: { DOCKER_HOST: `unix://${cable.path}` } });
    await expect(subject.engine.prepare(quiet)).rejects.toMatchObject({
      code: "engine-unreachable",
      message: expect.stringContaining(cable.path) as unknown,
      hint: expect.stringContaining("DOCKER_HOST") as unknown,
    });
    await expect(subject.engine.reapOrphans()).rejects.toMatchObject({ code: "engine-unreachable" });
    expect(await subject.engine.diagnose({ path: "/", key: "none" })).toMatchObject([
      { name: "engine", status: "fail" },
    ]);

    await cable.mend();
    await subject.engine.prepare(quiet);
    await cable.cut();
  });

  it("while a sandbox runs costs neither the sandbox nor the server", async () => {
    const cable = new Cable(join(scratch, "docker.sock"));
    await cable.mend();
    const subject = await makeDockerUnderTest({ env: { DOCKER_HOST: `unix://${cable.path}` } });
    await subject.engine.prepare(quiet);
    const sandbox = await subject.engine.launch(await subject.newSpec(), {
      signal: quiet.signal,
      onBridgeConnection: (stream) => stream.destroy(),
    });
    await cable.cut();
    (await sandbox.connectGateway({ signal: quiet.signal })).destroy();
    await expect(subject.engine.listSandboxes()).rejects.toMatchObject({ code: "engine-unreachable" });

    await cable.mend();
    await subject.kill(sandbox); // nobody tells us but the lifeline
    await sandbox.exited;
    await sandbox[Symbol.asyncDispose]();
    expect(await subject.leftovers()).toEqual([]);
    await subject[Symbol.asyncDispose]();
    await cable.cut();
  });
});
