import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";
import { describe, expect, it } from "vitest";
import { silentLogger } from "../../../src/common/logger.ts";
import { GatewayDock, type GatewayDockOptions } from "../../../src/sandbox/link/gateway-dock.ts";
import { duplexPair } from "../../fakes/duplex-pair.ts";

const signal = new AbortController().signal;
const TOKEN = "c0ffee";

function makeDock(options: Partial<GatewayDockOptions> = {}) {
  const log: string[] = [];
  const output: string[] = [];
  const dock = new GatewayDock({
    mission: { mode: "session", token: TOKEN, workspace: "/w", shields: [] },
    onLog: (text) => log.push(text),
    onOutput: (text) => output.push(text),
    logger: silentLogger,
    ...options,
  });
  const dial = (first?: string | Buffer) => {
    const [hostEnd, sandboxEnd] = duplexPair();
    sandboxEnd.on("error", () => undefined);
    dock.accept(hostEnd);
    if (first !== undefined) sandboxEnd.write(first);
    return sandboxEnd;
  };
  return { dock, dial, log, output };
}

const closed = async (stream: Duplex) => {
  stream.resume();
  if (!stream.destroyed) await once(stream, "close");
};
const line = async (stream: Duplex) => {
  for await (const text of createInterface({ input: stream })) return text;
  return undefined;
};
const gatewayLine = (token = TOKEN) => `${JSON.stringify({ role: "gateway", token })}\n`;
const initLine = '{"role":"init","version":1}\n';

describe("the control connection", () => {
  it("is answered with the mission", async () => {
    const { dial } = makeDock();
    const answer = await line(dial(initLine));
    expect(JSON.parse(answer ?? "")).toEqual({ mode: "session", token: TOKEN, workspace: "/w", shields: [] });
  });

  it("is the first one only: a second init is closed and told nothing", async () => {
    const { dock, dial } = makeDock();
    dial(initLine);
    await dock.control;
    const second = dial(initLine);
    let told = "";
    second.on("data", (chunk: Buffer) => (told += chunk.toString()));
    await closed(second);
    expect(told).toBe("");
  });

  it("brings log lines, output, however it is cut, and the exit code", async () => {
    const mission = { mode: "task", module: "installer", args: ["x"], writes: "packages", shields: [] } as const;
    const { dock, dial, log, output } = makeDock({ mission });
    const init = dial(initLine);
    const control = await dock.control;
    const events = Buffer.from(
      '{"event":"log","text":"hi"}\n{"event":"output","text":"größe"}\n{"event":"exit","code":3}\n',
    );
    for (const byte of events) init.write(Buffer.of(byte));
    init.end();
    await control.ended;
    expect({ log, output, code: control.exitCode }).toEqual({ log: ["hi"], output: ["größe"], code: 3 });
  });

  it.each([
    ["no JSON", "hello\n"],
    ["an unknown event", '{"event":"run","command":"id"}\n'],
    ["an event of the wrong shape", '{"event":"exit","code":"0"}\n'],
    ["a line without end", Buffer.alloc(3 * 1024 * 1024, 0x61)],
  ])("ends at %s", async (_what, bytes) => {
    const { dock, dial } = makeDock();
    const init = dial(initLine);
    const control = await dock.control;
    init.write(bytes);
    await control.ended;
    await closed(init);
  });

  it("ends with the dock, which is how a sandbox learns that it is over", async () => {
    const { dock, dial } = makeDock();
    const init = dial(initLine);
    await dock.control;
    dock[Symbol.dispose]();
    await closed(init);
  });
});

describe("gateway streams", () => {
  it("carry what follows the first line, even when it came with it", async () => {
    const { dock, dial } = makeDock();
    const gateway = dial(`${gatewayLine()}early`);
    const stream = await dock.connectGateway({ signal });
    gateway.write(" late\n");
    expect(await line(stream)).toBe("early late");
  });

  it("are handed out once each, in any number", async () => {
    const { dock, dial } = makeDock();
    const waiting = Promise.all([1, 2, 3].map(() => dock.connectGateway({ signal })));
    for (let i = 0; i < 3; i++) dial(gatewayLine());
    expect(new Set(await waiting).size).toBe(3);
  });

  it("make the dock ready", async () => {
    const { dock, dial } = makeDock();
    dial(gatewayLine());
    await dock.ready;
  });

  it("are forgotten when they close while idle", async () => {
    const { dock, dial } = makeDock();
    const dead = dial(gatewayLine());
    await dock.ready;
    dead.destroy();
    await closed(dead);
    const next = dock.connectGateway({ signal });
    const live = dial(gatewayLine());
    live.write("alive\n");
    expect(await line(await next)).toBe("alive");
  });

  it("are bounded while idle", async () => {
    const { dock, dial } = makeDock();
    const streams: Duplex[] = [];
    for (let i = 0; i < 40; i++) {
      streams.push(dial(gatewayLine()));
      await new Promise(setImmediate);
    }
    await dock.ready;
    expect(streams.filter((stream) => !stream.destroyed).length).toBeLessThanOrEqual(16);
  });

  it("are refused to those who wait when the sandbox ends", async () => {
    const { dock } = makeDock();
    const waiting = dock.connectGateway({ signal });
    dock[Symbol.dispose]();
    await expect(waiting).rejects.toMatchObject({ code: "sandbox-gone" });
    await expect(dock.connectGateway({ signal })).rejects.toMatchObject({ code: "sandbox-gone" });
  });

  it("leave no taker behind whose signal aborted", async () => {
    const { dock, dial } = makeDock();
    const controller = new AbortController();
    const given = dock.connectGateway({ signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(given).rejects.toThrow("enough");
    dial(gatewayLine());
    await dock.ready;
    await expect(dock.connectGateway({ signal })).resolves.toBeDefined();
  });
});

describe("a connection to the gateway socket", () => {
  it.each([
    ["with a wrong token", gatewayLine("c0ffef")],
    ["with a token of another length", gatewayLine("")],
    ["of an unknown role", '{"role":"admin"}\n'],
    ["of another version of init", '{"role":"init","version":2}\n'],
    ["that is no JSON", "GET / HTTP/1.1\r\n"],
    ["with a first line that is too long", Buffer.alloc(5000, 0x61)],
    ["with a token that is no text", '{"role":"gateway","token":1}\n'],
  ])("%s is closed", async (_what, first) => {
    const { dock, dial } = makeDock();
    await closed(dial(first));
    dial(initLine);
    await dock.control; // the honest one still gets through
  });

  it("can't become a gateway stream in a task", async () => {
    const { dial } = makeDock({ mission: { mode: "task", module: "m", args: [], writes: "packages", shields: [] } });
    await closed(dial(gatewayLine("")));
  });

  it("is closed when too many others have not said what they are", async () => {
    const { dial } = makeDock();
    const streams = Array.from({ length: 30 }, () => dial());
    await Promise.all(streams.slice(16).map(closed));
    expect(streams.slice(0, 16).some((stream) => stream.destroyed)).toBe(false);
    for (const stream of streams) stream.destroy();
  });

  it("is closed when the sandbox has ended", async () => {
    const { dock, dial } = makeDock();
    dock[Symbol.dispose]();
    await closed(dial(initLine));
  });
});
