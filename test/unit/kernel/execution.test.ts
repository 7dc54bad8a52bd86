import { describe, expect, test } from "vitest";

import { Execution } from "../../../src/kernel/execution.ts";
import type { KernelMessage } from "../../../src/kernel/messages.ts";

const message = (channel: string, type: string, content: unknown): KernelMessage => ({
  channel,
  id: "m",
  type,
  parentId: "p",
  content,
  size: Buffer.byteLength(JSON.stringify(content)),
});
const stream = (text: string) => message("iopub", "stream", { name: "stdout", text });
const status = (state: string) => message("iopub", "status", { execution_state: state });
const reply = (content: object = { status: "ok", execution_count: 1 }) => message("shell", "execute_reply", content);
const error = (ename: string) => message("iopub", "error", { ename, evalue: "", traceback: [`${ename}: why`] });

function replay(messages: readonly KernelMessage[], maxOutputBytes = 1000) {
  const seen: string[] = [];
  const execution = new Execution({
    maxOutputBytes,
    onText: (text) => seen.push(text),
    onOutputLimit: () => seen.push("LIMIT"),
  });
  for (const each of messages) execution.handle(each);
  return { execution, seen };
}

describe("Execution", () => {
  test("is done on reply and idle, in this order", async () => {
    const { execution } = replay([status("busy"), stream("a"), reply(), status("idle")]);
    expect(await execution.done).toEqual({ status: "ok", executionCount: 1, output: { text: "a", pictures: [] } });
  });

  test("is done on idle and reply, in that order", async () => {
    const { execution } = replay([status("busy"), stream("a"), status("idle"), reply()]);
    expect((await execution.done).output.text).toBe("a");
  });

  test("keeps output that comes after the reply", async () => {
    const { execution } = replay([reply(), stream("late"), status("idle")]);
    expect((await execution.done).output.text).toBe("late");
  });

  test("is done without its idle when the fence says that it is lost", async () => {
    const { execution } = replay([stream("a"), reply()]);
    execution.giveUpOnIdle();
    expect(await execution.done).toMatchObject({ status: "ok" });
  });

  test("ends as died with what was printed", async () => {
    const { execution } = replay([status("busy"), stream("before")]);
    execution.die({ type: "signal", signal: "SIGSEGV" });
    expect(await execution.done).toMatchObject({
      status: "died",
      cause: { signal: "SIGSEGV" },
      output: { text: "before" },
    });
  });

  test("shows an error after what was printed before it", async () => {
    const { execution } = replay([
      stream("before"),
      error("ValueError"),
      reply({ status: "error", execution_count: 2 }),
      status("idle"),
    ]);
    expect(await execution.done).toMatchObject({ status: "error", output: { text: "before\nValueError: why" } });
  });

  test("hides the traceback of an interrupt that is ours, and no other", async () => {
    const { execution } = replay([stream("a")]);
    execution.expectInterrupt();
    for (const each of [error("KeyboardInterrupt"), error("ValueError"), reply({ status: "error" }), status("idle")])
      execution.handle(each);
    expect((await execution.done).output.text).toBe("a\nValueError: why");
  });

  test("says once that the output limit is exceeded and takes no more", () => {
    const { seen } = replay([stream("12345"), stream("67890"), stream("more"), stream("more")], 150);
    expect(seen).toEqual(["12345", "67890", "LIMIT"]);
  });

  test("counts bytes, not characters, and displays of nothing, of which a cell may make any number", () => {
    const nothing = message("iopub", "display_data", { data: {} });
    expect(replay([stream("€".repeat(400))]).seen).toContain("LIMIT");
    expect(replay(Array.from({ length: 20 }, () => nothing)).seen).toEqual(["LIMIT"]);
    expect(replay(Array.from({ length: 20 }, () => message("iopub", "comm_msg", {}))).seen).toEqual([]);
  });

  test.for([
    ["a reply without a status", reply({})],
    ["a stream without text", message("iopub", "stream", { name: "stdout" })],
    ["a display of a wrong shape", message("iopub", "display_data", { data: "text" })],
    ["content that is null", message("iopub", "error", null)],
  ] as const)("survives %s", async ([, malformed]) => {
    const { execution } = replay([malformed, reply(), status("idle")]);
    expect(await execution.done).toMatchObject({ status: "ok", output: { text: "" } });
  });
});
