import { describe, expect, test } from "vitest";
import { idOfOversize, LineSplitter } from "../../../src/common/line-splitter.ts";

const texts = (splitter: LineSplitter, ...chunks: string[]) =>
  chunks.flatMap((chunk) =>
    splitter.push(Buffer.from(chunk)).map((line) => (line.kind === "line" ? line.bytes.toString() : line)),
  );

describe("lines", () => {
  test.each([
    [["a\nb\n"], ["a", "b"]],
    [["a", "b\n"], ["ab"]],
    [["\n\n"], ["", ""]],
    [["a\n", "b"], ["a"]],
    [["0123456789\n"], ["0123456789"]],
    [
      ["01234", "56789", "\n", "x\n"],
      ["0123456789", "x"],
    ],
  ])("%j hold %j", (chunks, lines) => {
    expect(texts(new LineSplitter(10), ...chunks)).toEqual(lines);
  });

  test.each([
    [["0123456789x\ny\n"]],
    [["01234", "56789x\ny\n"]],
    [["0123456789", "x", "\ny\n"]],
    [["0123456789x", "\ny\n"]],
  ])("of %j the first is too long, the second is not", (chunks) => {
    expect(texts(new LineSplitter(10), ...chunks)).toEqual([
      { kind: "oversize", head: "0123456789x", tail: "0123456789x" },
      "y",
    ]);
  });

  test("that are given up come out as oversize", () => {
    const splitter = new LineSplitter(10);
    expect(texts(splitter, "abc")).toEqual([]);
    splitter.discardPending();
    expect(splitter.heldBytes).toBe(0);
    expect(texts(splitter, "d\ne\n")).toEqual([{ kind: "oversize", head: "abc", tail: "abcd" }, "e"]);
  });

  test("that trickle in byte by byte take no more than twice their size", () => {
    const splitter = new LineSplitter(1_000_000);
    for (let sent = 0; sent < 5000; sent += 1) splitter.push(Buffer.of(0x61));
    expect(splitter.heldBytes).toBeLessThanOrEqual(10_000);
  });
});

test.each([
  ['{"jsonrpc":"2.0","id":7,"method":"x","params":', "…", 7],
  ['{"jsonrpc": "2.0", "method": "tools/call", "id": "a\\"b", "params":', "…", 'a"b'],
  ['{"result":{"content":[{"id":5,', '"}]},"jsonrpc":"2.0","id":8}', 8],
  ['{"result":{"content":[{"id":5,', '"id":6}]}}', undefined],
  ['{"params":{"id":5,', "…", undefined],
])("the id in %j … %j is %j", (head, tail, id) => {
  expect(idOfOversize({ head, tail })).toBe(id);
});
