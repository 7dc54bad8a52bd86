import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";

import { GatewayClient } from "../../../src/kernel/gateway-client.ts";
import { KernelConnection } from "../../../src/kernel/kernel-connection.ts";
import { encodeMessage, line, type Line, ScriptedGateway } from "../../fakes/scripted-gateway.ts";

let gateway: ScriptedGateway;
let client: GatewayClient;
let kernel: KernelConnection;
beforeEach(async () => {
  gateway = new ScriptedGateway();
  client = new GatewayClient(gateway.connect);
  await client.watchKernels(({ cause }) => kernel.announceExit(cause));
  kernel = await KernelConnection.start(client, { env: { X: "1" } });
});
afterEach(async () => {
  kernel.markDead({ type: "unknown" });
  client[Symbol.dispose]();
  await gateway[Symbol.asyncDispose]();
});

function play(...transcript: Line[]) {
  gateway.transcripts.push(transcript);
  return kernel.execute("code", { maxOutputBytes: 1000, onOutputLimit: () => undefined }).done;
}

describe("a cell's messages", () => {
  test("may end with the idle state", async () => {
    expect(await play(line.busy, line.out("a"), line.reply, line.idle)).toMatchObject({
      status: "ok",
      output: { text: "a" },
    });
  });

  test("may end with the reply", async () => {
    expect(await play(line.busy, line.out("a"), line.idle, line.reply)).toMatchObject({
      status: "ok",
      output: { text: "a" },
    });
  });

  test("may have output after the reply", async () => {
    expect(await play(line.busy, line.reply, line.out("late"), line.idle)).toMatchObject({ output: { text: "late" } });
  });

  test("are complete without an idle state that was lost, by the fence", async () => {
    expect(await play(line.busy, line.out("a"), line.reply)).toMatchObject({ status: "ok", output: { text: "a" } });
  });

  test("are complete without a reply that an interrupt swallowed, by the fence", async () => {
    expect(await play(line.busy, line.out("a"), line.idle)).toMatchObject({ status: "error", output: { text: "a" } });
  });

  test("show an error of which only the reply tells", async () => {
    const failed = { status: "error", execution_count: 1, ename: "ValueError", evalue: "why" };
    const reply = (more: object) => ({ ...line.reply, content: { ...failed, ...more } });
    const shown = { channel: "iopub", type: "error", content: { ...failed, traceback: ["the traceback"] } } as const;
    expect((await play(line.out("a"), reply({}), line.idle)).output.text).toBe("a\nValueError: why");
    expect((await play(reply({ traceback: ["of", "the reply"] }), line.idle)).output.text).toBe("of\nthe reply");
    expect((await play(shown, reply({ traceback: ["x"] }), line.idle)).output.text).toBe("the traceback");
  });

  test("are not mixed with those of another parent", async () => {
    const foreign = { ...line.out("foreign"), parent: "somebody-else" };
    const foreignIdle = { ...line.idle, parent: "somebody-else" };
    expect(await play(foreign, line.out("own"), foreignIdle, line.reply, line.idle)).toMatchObject({
      output: { text: "own" },
    });
  });

  test("are told from malformed and textual frames", async () => {
    const malformed = [Buffer.from("garbage"), "text", Buffer.alloc(8, 255), encodeMessage("iopub", "stream", [], "x")];
    const result = await play(line.busy, ...malformed.map((raw) => ({ raw })), line.out("a"), line.reply, line.idle);
    expect(result).toMatchObject({ status: "ok", output: { text: "a" } });
  });

  test("are followed by those of the next cell", async () => {
    await play(line.out("first"), line.reply, line.idle);
    expect(await play(line.out("second"), line.reply, line.idle)).toMatchObject({ output: { text: "second" } });
  });
});

describe("what a cell has left running", () => {
  const display = { channel: "iopub", type: "display_data", content: { data: { "text/plain": "shown" } } } as const;

  test("shows its output in the next cell, when no other runs", async () => {
    const between = [line.out("between\n"), display];
    expect(await play(line.out("first"), line.reply, line.idle, ...between)).toMatchObject({
      output: { text: "first" },
    });
    expect(await play(line.out("second"), line.reply, line.idle)).toMatchObject({
      output: { text: "between\nshown\nsecond" },
    });
    expect(await play(line.out("third"), line.reply, line.idle)).toMatchObject({ output: { text: "third" } });
  });

  test("shows its output in the cell that runs", async () => {
    await play(line.out("first"), line.reply, line.idle);
    const late = [line.out("late\n"), display].map((each) => ({ ...each, parent: { cell: 0 } }));
    expect(await play(line.busy, ...late, line.out("own"), line.reply, line.idle)).toMatchObject({
      output: { text: "late\nshown\nown" },
    });
  });

  test("neither ends the cell that runs nor clears its output", async () => {
    await play(line.reply, line.idle);
    const clear = { channel: "iopub", type: "clear_output", content: { wait: false } } as const;
    const late = [clear, line.idle, line.reply].map((each) => ({ ...each, parent: { cell: 0 } }));
    expect(await play(line.out("a"), ...late, line.out("b"), line.reply, line.idle)).toMatchObject({
      output: { text: "ab" },
    });
  });

  test("leaves the newest megabyte between two cells, and a word of the rest", async () => {
    const many = Array.from({ length: 30 }, (_, i) => line.out(`${i} ${"x".repeat(100_000)}\n`));
    await play(line.reply, line.idle, ...many);
    gateway.transcripts.push([line.reply, line.idle]);
    const { output } = await kernel.execute("code", { maxOutputBytes: 1e7, onOutputLimit: () => undefined }).done;
    expect(output.text).toMatch(/^\[Since the last cell more than 1 MB was printed: the end follows\]\n20 x/);
    expect(output.text).toContain("\n29 x");
  });
});

describe("a kernel that dies", () => {
  test("in the middle of a cell ends it with the cause and what was printed", async () => {
    const result = await play(line.busy, line.out("before"), { exit: { type: "signal", signal: "SIGSEGV" } });
    expect(result).toMatchObject({ status: "died", cause: { type: "signal", signal: "SIGSEGV" } });
  });

  test("ends its cell only when the output that follows the news is here", async () => {
    const result = await play(line.busy, { exit: { type: "exit", code: 3 } }, line.out("late"), line.out(" output"), {
      close: true,
    });
    expect(result).toMatchObject({ status: "died", cause: { type: "exit", code: 3 }, output: { text: "late output" } });
  });

  test("is heard with its cause even when its connection closes first", async () => {
    const result = await play(line.busy, { close: true }, { exit: { type: "out-of-memory" } });
    expect(result).toMatchObject({ status: "died", cause: { type: "out-of-memory" } });
  });

  test.for([
    ["that the engine reports a second later", true, { type: "out-of-memory" }],
    ["that can be known within 2 s where the engine reports none", false, { type: "sandbox-end" }],
  ] as const)("with its sandbox is heard with the cause %s", async ([, reported, cause]) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const cell = play(line.busy, line.out("before"), { cut: true });
    await vi.waitFor(() => expect(vi.getTimerCount()).toBe(1));
    vi.advanceTimersByTime(1_500);
    expect(kernel.death).toBeUndefined();
    if (reported) kernel.markDead(cause);
    else vi.advanceTimersByTime(400);
    expect(await cell).toMatchObject({ cause, output: { text: "before" } });
  });

  test("ends the cell although nobody tells why", async () => {
    expect(await play(line.busy, line.out("before"), { close: true })).toMatchObject({
      status: "died",
      cause: { type: "unknown" },
      output: { text: "before" },
    });
  });

  test("may be one that is killed for a frame beyond the limit, of which nothing is taken", async () => {
    const header = Buffer.from("827f0000000010000001", "hex"); // binary, 256 MB and a byte
    expect(await play(line.busy, line.out("before"), { bytes: header }, line.out("after"))).toMatchObject({
      status: "died",
      cause: { type: "output-limit" },
      output: { text: "before" },
    });
    await vi.waitFor(() => expect(gateway.requests).toContain("DELETE /api/kernels/ID"));
  });

  test("is heard no more", async () => {
    gateway.transcripts.push([line.busy, line.out("before"), line.out("after"), line.reply, line.idle]);
    const onText = () => kernel.markDead({ type: "unknown" });
    const cell = kernel.execute("code", { onText, maxOutputBytes: 1000, onOutputLimit: () => undefined });
    expect(await cell.done).toMatchObject({ status: "died", output: { text: "before" } });
    expect(cell.output.text).toBe("before");
  });

  test("ends later cells at once", async () => {
    kernel.markDead({ type: "exit", code: 3 });
    expect(await play(line.reply, line.idle)).toMatchObject({ status: "died", cause: { type: "exit", code: 3 } });
  });
});

test("killing a kernel ends its cell and asks the gateway to end its processes", async () => {
  const cell = play(line.busy, line.out("before"));
  await kernel.kill(1000);
  expect(await cell).toMatchObject({ status: "died" });
  expect(gateway.requests).toEqual(["GET /ipybox/events", "POST /api/kernels", "DELETE /api/kernels/ID"]);
});
