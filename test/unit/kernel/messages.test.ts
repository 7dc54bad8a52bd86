import { describe, expect, test } from "vitest";

import { decodeMessage, encodeRequest, type KernelRequest } from "../../../src/kernel/messages.ts";

const toExecute = (content: KernelRequest["content"]) =>
  ({ channel: "shell", id: "1", type: "execute_request", content }) as const;

describe("the WebSocket framing", () => {
  test("decodes what it encodes", () => {
    const request = toExecute({ code: "1 + 1 # ä" });
    expect(decodeMessage(encodeRequest(request, "session"))).toEqual({
      channel: "shell",
      id: request.id,
      type: "execute_request",
      parentId: "",
      content: { code: "1 + 1 # ä" },
      size: 21,
    });
  });

  test("takes what was printed from behind the content", () => {
    const header = JSON.stringify({ msg_id: "1", msg_type: "stream" });
    const parts = ["iopub", header, "{}", "{}", '{"name":"stdout"}', 'ä "\n'].map((part) => Buffer.from(part));
    const head = new BigUint64Array(parts.length + 2);
    head[0] = BigInt(parts.length + 1);
    head[1] = BigInt(head.byteLength);
    for (const [index, part] of parts.entries()) head[index + 2] = (head[index + 1] ?? 0n) + BigInt(part.length);
    const frame = Buffer.concat([Buffer.from(head.buffer), ...parts]);
    expect(decodeMessage(frame)).toMatchObject({ content: { name: "stdout", text: 'ä "\n' }, size: 22 });
  });

  const whole = encodeRequest(toExecute({}), "session");
  const withOffset = (index: number, value: bigint) => {
    const frame = Buffer.from(whole);
    frame.writeBigUInt64LE(value, 8 * index);
    return frame;
  };
  test.for([
    ["an empty frame", Buffer.alloc(0)],
    ["a frame that is cut", whole.subarray(0, 60)],
    ["too many offsets", withOffset(0, 2n ** 60n)],
    ["too few offsets", withOffset(0, 2n)],
    ["an offset behind the end", withOffset(6, 2n ** 40n)],
    ["offsets that go back", withOffset(2, 1n)],
    ["content that is no JSON", Buffer.from(whole.toString("latin1").replace(/\{\}$/, "{]"), "latin1")],
  ] as const)("takes %s for no message", ([, frame]) => {
    expect(decodeMessage(frame)).toBeUndefined();
  });
});
