import { PassThrough } from "node:stream";

import { describe, expect, test } from "vitest";

import { StdioTransport } from "../../../src/server/stdio-transport.ts";

async function open() {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const transport = new StdioTransport(input, output);
  const [received, errors]: [unknown[], string[]] = [[], []];
  transport.onmessage = (message) => received.push(message);
  transport.onerror = (error) => errors.push(error.message);
  await transport.start();
  const answers = () =>
    String(output.read() ?? "")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as unknown);
  return { transport, input, received, errors, answers };
}
const ping = (id: number) => ({ jsonrpc: "2.0", id, method: "ping" });
const refused = (id: string | number | null, code: number) =>
  expect.objectContaining({ id, error: expect.objectContaining({ code }) as unknown }) as unknown;

describe("what comes in", () => {
  test("is heard in order, whatever pieces it comes in, a batch too", async () => {
    const { input, received, answers } = await open();
    const text = `${JSON.stringify(ping(1))}\r\n\n  \n${JSON.stringify([ping(2), ping(3)])}\n${JSON.stringify(ping(4))}\n`;
    for (const byte of Buffer.from(text)) input.write(Buffer.of(byte));
    expect(received).toEqual([ping(1), ping(2), ping(3), ping(4)]);
    expect(answers()).toEqual([]);
  });

  test.for([
    ["no JSON", "{", null, -32700],
    ["a batch of nothing", "[]", null, -32600],
    ["a number", "5", null, -32600],
    [
      "a request with a part that is none",
      '{"jsonrpc":"2.0","id":"a","method":"x","params":{"_meta":null}}',
      "a",
      -32600,
    ],
    ["a request without a version", '{"id":7,"method":"ping"}', 7, -32600],
    ["a request whose id is none", '{"jsonrpc":"2.0","id":{},"method":"ping"}', null, -32600],
  ] as const)("is refused, and not left without an answer, where it is %s", async ([, text, id, code]) => {
    const { input, received, answers } = await open();
    input.write(`${text}\n${JSON.stringify(ping(1))}\n`);
    expect(answers()).toEqual([refused(id, code)]);
    expect(received).toEqual([ping(1)]);
  });

  test("is refused where it is too long, and what follows is heard", async () => {
    const { input, received, answers } = await open();
    const begin = '{"jsonrpc":"2.0","id":"long","method":"ping","params":{"x":"';
    input.write(Buffer.concat([Buffer.from(begin), Buffer.alloc(65 * 2 ** 20, "x"), Buffer.from('"}}\n')]));
    input.write(`${JSON.stringify(ping(1))}\n`);
    expect(answers()).toEqual([refused("long", -32600)]);
    expect(received).toEqual([ping(1)]);
  });

  test("is not answered where it is a notification", async () => {
    const { input, errors, answers } = await open();
    input.write('{"method":"notifications/cancelled","params":5}\n');
    expect(answers()).toEqual([]);
    expect(errors).toHaveLength(1);
  });
});
