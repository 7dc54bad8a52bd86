import { buffer } from "node:stream/consumers";

import { expect, test } from "vitest";

import { markResult, markResultLines } from "../../../src/broker/exact-results.ts";
import { restoreIntegers } from "../../../src/common/exact-integers.ts";

const LARGE = "9007199254740993";
const RESULT = `{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":{"n":${LARGE}}}}`;
const LIST = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"inputSchema":{"maximum":${LARGE}}}]}}`;

const passOn = (json: string) => restoreIntegers(JSON.stringify(JSON.parse(markResult(json))));

test("a tool's result keeps its integers", () => {
  expect(passOn(RESULT)).toBe(RESULT);
});

test.each([
  LIST,
  `{"method":"notifications/progress","params":{"progress":${LARGE}}}`,
  `[${LARGE}]`,
  '{"result":null}',
])("nothing else is touched: %s", (json) => {
  expect(markResult(json)).toBe(json);
});

test.each([
  ["a message", RESULT, true],
  ["an event", `event: message\ndata: ${RESULT}\n\n`, true],
  ["an event with other ends of lines", `id: ${LARGE}\r\ndata:${RESULT}\r\n\r\n`, true],
  ["another message", LIST, false],
  ["text", `The answer, ${LARGE},\nis no JSON: ${RESULT}`, false],
])("over HTTP, in whatever pieces, %s", async (_, answer, isMarked) => {
  for (const size of [1, 7, answer.length]) {
    const bytes = Buffer.from(answer);
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) =>
      bytes.subarray(n * size, (n + 1) * size),
    );
    const marked = (await buffer(ReadableStream.from(pieces).pipeThrough(markResultLines()))).toString();
    expect(marked === answer).toBe(!isMarked);
    expect(restoreIntegers(marked)).toBe(answer);
  }
});
