import { once } from "node:events";
import type { Duplex } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { silentLogger } from "../../../src/common/logger.ts";
import { WINDOW_BYTES } from "../../../src/sandbox/link/channel.ts";
import { encodeFrame, type Frame, FrameDecoder, MAX_PAYLOAD_BYTES } from "../../../src/sandbox/link/frames.ts";
import { Multiplexer } from "../../../src/sandbox/link/multiplexer.ts";
import { duplexPair } from "../../fakes/duplex-pair.ts";

afterEach(() => vi.useRealTimers());

/** A multiplexer whose sandbox is played by the test. */
function start() {
  const [host, sandbox] = duplexPair();
  const connections: Duplex[] = [];
  const multiplexer = new Multiplexer(
    { incoming: host, outgoing: host },
    {
      services: { gateway: (stream) => connections.push(stream), tools: (stream) => connections.push(stream) },
      logger: silentLogger,
    },
  );
  const heard: Frame[] = [];
  const decoder = new FrameDecoder();
  sandbox.on("data", (chunk: Buffer) => heard.push(...decoder.decode(chunk)));
  sandbox.on("error", () => undefined);
  const send = (...frames: Frame[]) => frames.forEach((frame) => sandbox.write(encodeFrame(frame)));
  const open = async (connection: number): Promise<Duplex> => {
    send({ kind: "open", connection, service: "tools" });
    await vi.waitFor(() => expect(connections).toHaveLength(connection));
    const stream = connections[connection - 1];
    if (stream === undefined) throw new Error("not connected");
    return stream;
  };
  const sentData = () => heard.flatMap((frame) => (frame.kind === "data" ? [frame.payload] : []));
  return { multiplexer, sandbox, heard, send, open, sentData, connections };
}

const data = (connection: number, payload: string | Buffer): Frame => ({
  kind: "data",
  connection,
  payload: Buffer.from(payload),
});

describe("frames", () => {
  const frames: Frame[] = [
    { kind: "open", connection: 1, service: "egress" },
    data(1, "hello"),
    data(1, Buffer.alloc(MAX_PAYLOAD_BYTES, "x")),
    { kind: "credit", connection: 1, bytes: 5 },
    { kind: "end", connection: 1 },
    { kind: "reset", connection: 0xffffffff },
    { kind: "ping" },
  ];

  it.each([1, 7, 1000, 1e6])("come out as they went in, cut into chunks of %i bytes", (size) => {
    const bytes = Buffer.concat(frames.map(encodeFrame));
    const decoder = new FrameDecoder();
    const found: Frame[] = [];
    for (let start = 0; start < bytes.length; start += size) {
      for (const frame of decoder.decode(bytes.subarray(start, start + size))) {
        found.push(frame.kind === "data" ? { ...frame, payload: Buffer.from(frame.payload) } : frame);
      }
    }
    expect(found).toEqual(frames);
  });

  it.each([
    ["a long payload", [2, 0, 0, 0, 1, 0, 1, 0, 1]],
    ["an unknown kind", [79, 0, 0, 0, 1, 0, 0, 0, 0]],
    ["an unknown service", [1, 0, 0, 0, 1, 0, 0, 0, 1, 7]],
    ["a credit of another size", [5, 0, 0, 0, 1, 0, 0, 0, 1, 7]],
  ])("with %s are refused", (_what, bytes) => {
    expect(() => [...new FrameDecoder().decode(Buffer.from(bytes))]).toThrow();
  });
});

describe("the host's end of an exec link", () => {
  it("hands connections to their services, both ways, each half ending by itself", async () => {
    const { send, open, heard } = start();
    const stream = await open(1);
    send(data(1, "question"), { kind: "end", connection: 1 });
    expect((await buffer(stream)).toString()).toBe("question");
    await vi.waitFor(() => expect(heard).toContainEqual({ kind: "end", connection: 1 }));
    expect(heard.filter(({ kind }) => kind === "reset")).toEqual([]);
  });

  it("sends what a service still has to say after the sandbox's half has ended", async () => {
    const { send, open, heard, sentData } = start();
    const stream = await open(1);
    stream.write("answer");
    send({ kind: "end", connection: 1 });
    stream.resume();
    await vi.waitFor(() => expect(heard).toContainEqual({ kind: "end", connection: 1 }));
    expect(Buffer.concat(sentData()).toString()).toBe("answer");
  });

  it("sends no more than the sandbox has room for, in frames of bounded size, and other connections go on", async () => {
    const { send, open, sentData } = start();
    const [one, two] = [await open(1), await open(2)];
    one.write(Buffer.alloc(2 * WINDOW_BYTES, "x"));
    two.write("y");
    await vi.waitFor(() => expect(sentData().at(-1)?.toString()).toBe("y"));
    expect(Buffer.concat(sentData())).toHaveLength(WINDOW_BYTES + 1);
    for (const payload of sentData()) expect(payload.length).toBeLessThanOrEqual(MAX_PAYLOAD_BYTES);
    send({ kind: "credit", connection: 1, bytes: 1000 });
    await vi.waitFor(() => expect(Buffer.concat(sentData())).toHaveLength(WINDOW_BYTES + 1001));
  });

  it("lets the sandbox send more only once a service has taken what came", async () => {
    const { send, open, heard } = start();
    const stream = await open(1);
    for (let sent = 0; sent < WINDOW_BYTES; sent += 1024) send(data(1, Buffer.alloc(1024, "x")));
    const credits = () => heard.reduce((sum, frame) => sum + (frame.kind === "credit" ? frame.bytes : 0), 0);
    await open(2); // everything before it has arrived
    expect(credits()).toBeLessThan(WINDOW_BYTES / 2);
    stream.resume();
    await vi.waitFor(() => expect(credits()).toBe(WINDOW_BYTES));
  });

  it("holds a window of single bytes in few pieces", async () => {
    const { send, open } = start();
    const stream = await open(1);
    for (let i = 0; i < 5000; i += 1) send(data(1, "x"));
    await open(2);
    const pieces: number[] = [];
    stream.on("data", (chunk: Buffer) => pieces.push(chunk.length));
    await vi.waitFor(() => expect(pieces.reduce((sum, length) => sum + length, 0)).toBe(5000));
    expect(pieces.length).toBeLessThan(10);
  });

  it("resets what a service gives up, and ignores what was under way to it", async () => {
    const { multiplexer, send, open, heard } = start();
    (await open(1)).destroy();
    await vi.waitFor(() => expect(heard).toContainEqual({ kind: "reset", connection: 1 }));
    send(data(1, "late"), { kind: "credit", connection: 1, bytes: 1 }, { kind: "end", connection: 1 });
    await open(2);
    multiplexer[Symbol.dispose]();
  });

  it("closes what the sandbox resets", async () => {
    const { send, open, heard } = start();
    const stream = await open(1);
    const closed = once(stream, "close");
    send({ kind: "reset", connection: 1 });
    await closed;
    expect(heard.filter(({ kind }) => kind === "reset")).toEqual([]);
  });

  it("resets connections to a service that is not offered, and those over the limit", async () => {
    const { send, heard, connections } = start();
    send({ kind: "open", connection: 1, service: "egress" });
    await vi.waitFor(() => expect(heard).toContainEqual({ kind: "reset", connection: 1 }));
    for (let connection = 2; connection <= 514; connection += 1) send({ kind: "open", connection, service: "tools" });
    await vi.waitFor(() => expect(heard).toContainEqual({ kind: "reset", connection: 514 }));
    expect(connections).toHaveLength(512);
  });

  it.each<[string, Frame[]]>([
    ["a connection that was opened before", [{ kind: "open", connection: 1, service: "tools" }]],
    ["a frame of a connection that never was", [data(7, "x")]],
    ["more data than granted", Array.from({ length: 5 }, () => data(1, Buffer.alloc(MAX_PAYLOAD_BYTES)))],
    ["data after the end", [{ kind: "end", connection: 1 }, data(1, "x")]],
    ["a second end", Array.from({ length: 2 }, () => ({ kind: "end", connection: 1 }) as const)],
    ["more credit than the window", [{ kind: "credit", connection: 1, bytes: 1 }]],
  ])("ends with all its connections at %s", async (_what, frames) => {
    const { multiplexer, send, open } = start();
    const stream = await open(1);
    const closed = once(stream, "close");
    send(...frames);
    await Promise.all([multiplexer.ended, closed]);
  });

  it("ends with the carrier, and closes what it carried", async () => {
    const { multiplexer, sandbox, open } = start();
    const stream = await open(1);
    const closed = once(stream, "close");
    sandbox.destroy();
    await Promise.all([multiplexer.ended, closed]);
    expect(stream.write("x")).toBe(false);
  });

  it("beats, and gives a silent sandbox up", async () => {
    vi.useFakeTimers();
    const { multiplexer, heard, send } = start();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(heard).toEqual([{ kind: "ping" }, { kind: "ping" }]);
    send({ kind: "ping" });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(heard).toHaveLength(6);
    await vi.advanceTimersByTimeAsync(30_000);
    await multiplexer.ended;
  });
});
