import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type BridgeHandlers, BridgeServer } from "../../src/bridge/bridge-server.ts";
import { IpyboxError } from "../../src/common/errors.ts";
import { silentLogger } from "../../src/common/logger.ts";

const MiB = 1024 * 1024;

/** Kernel code's end of the wire, with no manners of its own. */
class Wire {
  readonly socket: Socket;
  readonly #answers: AsyncIterator<string, undefined>;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => undefined);
    this.#answers = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  send(message: unknown): void {
    this.socket.write(`${JSON.stringify(message)}\n`);
  }

  call(id: unknown, tool: string, args: Record<string, unknown> = {}): void {
    this.send({ jsonrpc: "2.0", id, method: "tools/call", params: { server: "s", tool, arguments: args } });
  }

  /** The next answer, or undefined at the end of the connection. */
  async answer(): Promise<Record<string, unknown> | undefined> {
    const text = await this.answerText();
    return text === undefined ? undefined : (JSON.parse(text) as Record<string, unknown>);
  }

  async answerText(): Promise<string | undefined> {
    return (await this.#answers.next()).value;
  }
}

/** Answers "echo" at once, "wait" when told or aborted, "big" with so many bytes, and the rest with errors. */
class Upstreams implements BridgeHandlers {
  readonly started: string[] = [];
  readonly aborted: string[] = [];
  onChange: () => void = () => undefined;

  async callTool(call: Parameters<BridgeHandlers["callTool"]>[0], { signal }: { signal: AbortSignal }) {
    this.started.push(call.tool);
    this.onChange();
    if (call.tool === "wait") {
      if (!signal.aborted) await once(signal, "abort");
      this.aborted.push(call.tool);
      this.onChange();
      throw new IpyboxError("tool-cancelled", "cancelled");
    }
    if (call.tool === "missing") throw new IpyboxError("unknown-tool", "no such tool", { hint: "Look again." });
    if (call.tool === "bug") throw new Error("/secret/path");
    const size = call.tool === "big" ? Number(call.arguments["bytes"]) : 0;
    return { content: [{ type: "text", text: "x".repeat(size) }], structuredContent: call.arguments };
  }

  installPackage(requirement: string) {
    return Promise.resolve(`installed ${requirement}`);
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => (this.onChange = resolve));
  }
}

let directory: string;
let listener: Server;
let upstreams: Upstreams;
let bridge: BridgeServer;
const clients: Socket[] = [];

async function dial(): Promise<Wire> {
  const socket = connect(join(directory, "tools.sock"));
  clients.push(socket);
  await once(socket, "connect");
  return new Wire(socket);
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "bridge-wire-"));
  upstreams = new Upstreams();
  bridge = new BridgeServer({ handlers: upstreams, logger: silentLogger });
  listener = createServer((socket) => bridge.accept(socket)).listen(join(directory, "tools.sock"));
  await once(listener, "listening");
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await bridge[Symbol.asyncDispose]();
  listener.close();
  await rm(directory, { recursive: true });
});

describe("calls", () => {
  test.each([1, 0, -7, 1.5, "a", ""])("are answered under the id %j", async (id) => {
    const wire = await dial();
    wire.call(id, "echo", { a: "${HOME}" });
    expect(await wire.answer()).toEqual({
      jsonrpc: "2.0",
      id,
      result: { content: [{ type: "text", text: "" }], structuredContent: { a: "${HOME}" } },
    });
  });

  test("are answered as they end, not as they came", async () => {
    const wire = await dial();
    wire.call(1, "wait");
    wire.call(2, "echo");
    expect(await wire.answer()).toMatchObject({ id: 2 });
    wire.send({ jsonrpc: "2.0", method: "cancelled", params: { id: 1 } });
    expect(await wire.answer()).toMatchObject({ id: 1, error: { data: { kind: "cancelled" } } });
  });

  test("carry integers as they are in their arguments, and take them for numbers elsewhere", async () => {
    const wire = await dial();
    const send = (server: string, args: string) =>
      wire.socket.write(
        `{"id":1,"method":"tools/call","params":{"server":${server},"tool":"echo","arguments":${args}}}\n`,
      );
    send('"s"', '{"a":[9007199254740993,"9007199254740993"]}');
    expect(await wire.answerText()).toContain('"structuredContent":{"a":[9007199254740993,"9007199254740993"]}');
    send("9007199254740993", "{}");
    expect(await wire.answerText()).toContain("expected string, received number");
  });

  test("survive any cut of the bytes, and carry any character", async () => {
    const wire = await dial();
    const frame = Buffer.from(
      `${JSON.stringify({ id: 1, method: "tools/call", params: { server: "s", tool: "echo", arguments: { a: "ü\u2028🎈" } } })}\n`,
    );
    for (const byte of frame) wire.socket.write(Buffer.of(byte));
    expect(await wire.answer()).toMatchObject({ result: { structuredContent: { a: "ü\u2028🎈" } } });
  });

  test("fail with a kind, a message and a hint", async () => {
    const wire = await dial();
    wire.call(1, "missing");
    expect(await wire.answer()).toEqual({
      jsonrpc: "2.0",
      id: 1,
      error: { code: -32000, message: "no such tool\nHint: Look again.", data: { kind: "not-found" } },
    });
  });

  test("that fail for a reason of ours don't show it", async () => {
    const wire = await dial();
    wire.call(1, "bug");
    expect(JSON.stringify(await wire.answer())).not.toContain("/secret/path");
  });

  test("with an id that is in flight are refused, the first goes on", async () => {
    const wire = await dial();
    wire.call(1, "wait");
    wire.call(1, "echo");
    expect(await wire.answer()).toMatchObject({ id: 1, error: { code: -32600 } });
    expect(upstreams.aborted).toEqual([]);
  });

  test("of packages carry the installer's words", async () => {
    const wire = await dial();
    wire.send({ jsonrpc: "2.0", id: 1, method: "packages/install", params: { requirement: "numpy" } });
    expect(await wire.answer()).toMatchObject({ result: { output: "installed numpy" } });
  });

  test.each([
    [{ id: 1, method: "tools/call", params: { server: "s", tool: "t", command: "sh", arguments: [] } }, -32602],
    [{ id: 1, method: "tools/call" }, -32602],
    [{ id: 1, method: "register", params: { command: "sh" } }, -32601],
    [{ id: 1, method: "__proto__" }, -32601],
    [{ id: null, method: "tools/call" }, -32700],
    [[], -32700],
    ["text", -32700],
    [null, -32700],
  ])("of a wrong shape (%j) are errors", async (message, code) => {
    const wire = await dial();
    wire.send(message);
    expect(await wire.answer()).toMatchObject({ error: { code } });
  });
});

describe("hostile bytes", () => {
  test("malformed JSON is answered, and the next call works", async () => {
    const wire = await dial();
    wire.socket.write("{oops\n\n\xff\n");
    expect(await wire.answer()).toMatchObject({ id: null, error: { code: -32700 } });
    expect(await wire.answer()).toMatchObject({ id: null, error: { code: -32700 } });
    wire.call(1, "echo");
    expect(await wire.answer()).toMatchObject({ id: 1, result: {} });
  });

  test("a flood of malformed lines that is not read does not grow the server", async () => {
    const wire = await dial();
    wire.socket.pause();
    const flood = Buffer.from("x\n".repeat(512 * 1024));
    for (let sent = 0; sent < 64 && wire.socket.write(flood); sent += 1);
    const other = await dial();
    other.call(1, "echo");
    expect(await other.answer()).toMatchObject({ id: 1, result: {} });
  });

  test("a frame of 17 MiB is an error of its call, and the connection stays", async () => {
    const wire = await dial();
    wire.call("huge", "echo", { a: "x".repeat(17 * MiB) });
    expect(await wire.answer()).toMatchObject({ id: "huge", error: { data: { kind: "limit" } } });
    wire.call(2, "echo", { a: "x".repeat(15 * MiB) });
    expect(await wire.answer()).toMatchObject({ id: 2, result: {} });
  });

  test("a result over 16 MiB is an error of its call", async () => {
    const wire = await dial();
    wire.call(1, "big", { bytes: 17 * MiB });
    expect(await wire.answer()).toMatchObject({ id: 1, error: { data: { kind: "limit" } } });
    wire.call(2, "big", { bytes: 15 * MiB });
    expect(await wire.answer()).toMatchObject({ id: 2, result: {} });
  });

  test("a frame that never ends costs no more memory than the limit", async () => {
    const wire = await dial();
    const before = process.memoryUsage().arrayBuffers;
    const block = Buffer.alloc(MiB, 0x61);
    for (let sent = 0; sent < 200; sent += 1) {
      if (!wire.socket.write(block)) await once(wire.socket, "drain");
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * MiB);
    const other = await dial();
    other.call(1, "echo");
    expect(await other.answer()).toMatchObject({ id: 1, result: {} });
    wire.socket.write("\n");
    expect(await wire.answer()).toMatchObject({ id: null, error: { data: { kind: "limit" } } });
  });

  test("never-ending frames on all connections share one budget", async () => {
    const wires = await Promise.all(Array.from({ length: 40 }, () => dial()));
    const before = process.memoryUsage().arrayBuffers;
    for (const wire of wires) {
      for (let sent = 0; sent < 8; sent += 1) {
        if (!wire.socket.write(Buffer.alloc(MiB, 0x61))) await once(wire.socket, "drain");
      }
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(200 * MiB);
  });

  test("answers to what was never asked are ignored", async () => {
    const wire = await dial();
    wire.send({ jsonrpc: "2.0", id: 99, result: { content: [] } });
    wire.send({ jsonrpc: "2.0", id: 98, error: { code: 1, message: "" } });
    wire.send({ jsonrpc: "2.0", method: "cancelled", params: { id: 97 } });
    wire.send({ jsonrpc: "2.0", method: "notifications/unknown" });
    wire.call(1, "echo");
    expect(await wire.answer()).toMatchObject({ id: 1, result: {} });
  });
});

describe("limits", () => {
  test("the 65th call in flight is an error, and a place is free again after a cancellation", async () => {
    const [first, second] = await Promise.all([dial(), dial()]);
    for (let id = 0; id < 64; id += 1) (id % 2 === 0 ? first : second).call(id, "wait");
    await upstreams.until(() => upstreams.started.length === 64);
    first.call("over", "echo");
    expect(await first.answer()).toMatchObject({ id: "over", error: { data: { kind: "limit" } } });
    first.send({ jsonrpc: "2.0", method: "cancelled", params: { id: 0 } });
    expect(await first.answer()).toMatchObject({ id: 0 });
    first.call("again", "echo");
    expect(await first.answer()).toMatchObject({ id: "again", result: {} });
  });

  test("of 100 connections 64 are served and the others told why not", async () => {
    const wires = await Promise.all(Array.from({ length: 100 }, () => dial()));
    for (const wire of wires) wire.call(1, "echo");
    const answers = await Promise.all(wires.map((wire) => wire.answer()));
    expect(answers.filter((answer) => answer?.["id"] === 1)).toHaveLength(64);
    for (const answer of answers.filter((answer) => answer?.["id"] === null)) {
      expect(answer).toMatchObject({ error: { data: { kind: "limit" } } });
    }
  });

  test("a thousand connections in a row leave room for the next", async () => {
    for (let round = 0; round < 1000; round += 1) {
      const wire = await dial();
      wire.socket.destroy();
      await once(wire.socket, "close");
    }
    const wire = await dial();
    wire.call(1, "echo");
    expect(await wire.answer()).toMatchObject({ id: 1, result: {} });
  });
});

describe("endings", () => {
  test("a closed connection aborts its calls, and no other's", async () => {
    const [gone, stays] = [await dial(), await dial()];
    gone.call(1, "wait");
    stays.call(1, "wait");
    await upstreams.until(() => upstreams.started.length === 2);
    gone.socket.destroy();
    await upstreams.until(() => upstreams.aborted.length === 1);
    stays.call(2, "echo");
    expect(await stays.answer()).toMatchObject({ id: 2 });
    expect(upstreams.aborted).toHaveLength(1);
  });

  test("a half-closed connection counts as closed", async () => {
    const wire = await dial();
    wire.call(1, "wait");
    await upstreams.until(() => upstreams.started.length === 1);
    wire.socket.end();
    await upstreams.until(() => upstreams.aborted.length === 1);
    expect(await wire.answer()).toBeUndefined();
  });

  test("disposal aborts the calls and closes the connections, and later ones are refused", async () => {
    const wire = await dial();
    wire.call(1, "wait");
    await upstreams.until(() => upstreams.started.length === 1);
    await bridge[Symbol.asyncDispose]();
    await upstreams.until(() => upstreams.aborted.length === 1);
    expect(await wire.answer()).toBeUndefined();
    const late = await dial();
    expect(await late.answer()).toMatchObject({ id: null, error: { data: { kind: "limit" } } });
  });
});
