import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import type { Duplex } from "node:stream";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Deferred } from "../../../src/common/lifecycle.ts";
import type { LaunchOptions, Sandbox, SandboxEngine, SandboxWorkspace } from "../../../src/sandbox/engine.ts";

/** What the contract suite needs to know about an engine beyond the port. */
export interface EngineUnderTest extends AsyncDisposable {
  readonly engine: SandboxEngine;
  makeWorkspace(): Promise<SandboxWorkspace>;
  /** From inside: connects to the bridge, sends a line, resolves to the line that comes back. */
  askBridge(sandbox: Sandbox, line: string): Promise<string>;
  /** Ends the sandbox behind the engine's back. */
  kill(sandbox: Sandbox): Promise<void>;
  /** Names of what the engine has made and not removed. */
  leftovers(): Promise<readonly string[]>;
}

const signal = new AbortController().signal;
const PREPARE_TIMEOUT_MS = 900_000;

/** The engine contract: every engine × link keeps it, the fake included. */
export function describeEngine(name: string, makeEngine: () => Promise<EngineUnderTest>): void {
  describe(`${name} as an engine`, () => {
    let subject: EngineUnderTest;
    let engine: SandboxEngine;

    beforeAll(async () => {
      subject = await makeEngine();
      engine = subject.engine;
      await engine.prepare({ signal, onProgress: () => undefined });
    }, PREPARE_TIMEOUT_MS);
    afterAll(() => subject[Symbol.asyncDispose]());
    afterEach(async () => expect(await subject.leftovers()).toEqual([]));

    const newSpec = async () => ({
      sessionId: randomBytes(8).toString("hex"),
      workspace: await subject.makeWorkspace(),
      mounts: [],
    });
    const launch = async (options: Partial<LaunchOptions> = {}) =>
      await engine.launch(await newSpec(), { signal, onBridgeConnection: (stream) => stream.destroy(), ...options });

    it("prepares again without doing anything", async () => {
      const steps: string[] = [];
      await engine.prepare({ signal, onProgress: (step) => steps.push(step.message) });
      expect(steps).toEqual([]);
    });

    it("hands out a fresh gateway stream per call, each of which speaks HTTP", async () => {
      await using sandbox = await launch();
      const streams = new Set<Duplex>();
      const ask = async () => {
        const stream = await sandbox.connectGateway({ signal });
        streams.add(stream);
        return await sayHello(stream);
      };
      for (const answer of await Promise.all([1, 2, 3, 4, 5].map(ask))) expect(answer).toEqual({ event: "hello" });
      expect(streams.size).toBe(5);
    });

    it("serves many gateway streams one after the other", async () => {
      await using sandbox = await launch();
      for (let i = 0; i < 50; i++) {
        expect(await sayHello(await sandbox.connectGateway({ signal }))).toEqual({ event: "hello" });
      }
    });

    it("passes connections to the bridge on, both ways", async () => {
      await using sandbox = await launch({
        onBridgeConnection: (stream) => stream.on("data", (chunk: Buffer) => stream.write(`echo ${chunk.toString()}`)),
      });
      expect(await subject.askBridge(sandbox, "hello")).toBe("echo hello");
    });

    it("keeps two sandboxes apart", async () => {
      const answering = (who: string) => (stream: Duplex) => void stream.on("data", () => stream.write(`${who}\n`));
      await using one = await launch({ onBridgeConnection: answering("one") });
      await using two = await launch({ onBridgeConnection: answering("two") });
      expect([await subject.askBridge(one, "?"), await subject.askBridge(two, "?")]).toEqual(["one", "two"]);
    });

    it("says where the workspace is inside", async () => {
      await using sandbox = await launch();
      expect(sandbox.workspacePath).toMatch(/^\//);
    });

    it("disposes twice as once, while a stream is in use", async () => {
      const sandbox = await launch();
      const stream = await sandbox.connectGateway({ signal });
      const closed = once(stream, "close");
      await Promise.all([sandbox[Symbol.asyncDispose](), sandbox[Symbol.asyncDispose]()]);
      await sandbox[Symbol.asyncDispose]();
      await closed;
      await expect(sandbox.exited).resolves.toHaveProperty("outOfMemory", false);
      await expect(sandbox.connectGateway({ signal })).rejects.toMatchObject({ code: "sandbox-gone" });
    });

    it("notices when the sandbox ends by itself, and leaves nothing of it", async () => {
      const sandbox = await launch();
      await subject.kill(sandbox);
      await expect(sandbox.exited).resolves.toHaveProperty("outOfMemory", false);
      await sandbox[Symbol.asyncDispose]();
      await expect(sandbox.connectGateway({ signal })).rejects.toMatchObject({ code: "sandbox-gone" });
    });

    it("keeps the log after the exit", async () => {
      const sandbox = await launch();
      await sandbox[Symbol.asyncDispose]();
      expect((await sandbox.tailLogs(1)).split("\n")).toHaveLength(1);
    });

    it("refuses a launch whose signal is aborted already", async () => {
      const reason = new Error("changed my mind");
      await expect(launch({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    });

    it("undoes a launch that is aborted half-way", async () => {
      const controller = new AbortController();
      const launching = launch({ signal: controller.signal });
      const reason = new Error("changed my mind");
      setImmediate(() => controller.abort(reason));
      const [outcome] = await Promise.allSettled([launching]);
      // An engine may be faster than the abort.
      if (outcome.status === "fulfilled") await outcome.value[Symbol.asyncDispose]();
      else expect(outcome.reason).toBe(reason);
    });

    it("stops waiting for a gateway stream when told", async () => {
      await using sandbox = await launch();
      const reason = new Error("enough");
      await expect(sandbox.connectGateway({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      expect(await sayHello(await sandbox.connectGateway({ signal }))).toEqual({ event: "hello" });
    });

    it("runs a task to its end and reports its output and exit code", async () => {
      const output: string[] = [];
      const result = await engine.runTask(
        {
          ...(await newSpec()),
          module: "no_such_module",
          args: ["x"],
          seesWorkspace: true,
          storage: { writes: "packages" },
        },
        { signal, onOutput: (chunk) => output.push(chunk), onEgressConnection: (stream) => stream.destroy() },
      );
      expect(result.code).not.toBe(0);
      expect(output.join("")).toContain("no_such_module");
    });

    it("refuses a task whose signal is aborted already", async () => {
      const reason = new Error("changed my mind");
      const task = engine.runTask(
        {
          ...(await newSpec()),
          module: "no_such_module",
          args: [],
          seesWorkspace: false,
          storage: { writes: "packages" },
        },
        { signal: AbortSignal.abort(reason), onOutput: () => undefined, onEgressConnection: (s) => s.destroy() },
      );
      await expect(task).rejects.toBe(reason);
    });

    it("spares the living when it removes orphans", async () => {
      await using sandbox = await launch();
      await engine.reapOrphans();
      expect(await sayHello(await sandbox.connectGateway({ signal }))).toEqual({ event: "hello" });
    });

    it("ends its sandboxes when it is disposed, and launches no more", async () => {
      const other = await makeEngine();
      await other.engine.prepare({ signal, onProgress: () => undefined });
      const spec = { sessionId: randomBytes(8).toString("hex"), workspace: await other.makeWorkspace(), mounts: [] };
      const options: LaunchOptions = { signal, onBridgeConnection: (stream) => stream.destroy() };
      const sandbox = await other.engine.launch(spec, options);
      await other.engine[Symbol.asyncDispose]();
      await sandbox.exited;
      await expect(other.engine.launch(spec, options)).rejects.toMatchObject({ code: "sandbox-gone" });
      await other[Symbol.asyncDispose]();
    });
  });
}

/** The first event of the gateway, over one stream, which is used up by it. */
async function sayHello(stream: Duplex): Promise<unknown> {
  const answered = new Deferred<IncomingMessage>();
  const outgoing = request({ path: "/ipybox/events", createConnection: () => stream });
  outgoing.on("error", answered.reject).on("response", answered.resolve).end();
  let text = "";
  for await (const chunk of await answered.promise) {
    text += String(chunk);
    if (text.includes("\n")) break;
  }
  outgoing.destroy();
  return JSON.parse(text);
}
