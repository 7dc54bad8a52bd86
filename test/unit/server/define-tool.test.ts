import { expect, test } from "vitest";

import { admitArguments } from "../../../src/server/define-tool.ts";

test.for([
  ["an object", { code: "1" }, { code: "1" }],
  ["an object as JSON text", '{"code":"1"}', { code: "1" }],
  ["null", null, undefined],
  ["other text", "code", { arguments: "code" }],
  ["a list", ["1"], { arguments: ["1"] }],
  ["a number", 5, { arguments: 5 }],
] as const)("a call's arguments may be %s, and its tool is the judge", ([, given, admitted]) => {
  const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "x", arguments: given } };
  admitArguments(call);
  expect(call.params.arguments).toEqual(admitted);
});

test("what is no call is left as it is", () => {
  for (const message of [{ method: "ping", params: { arguments: 5 } }, { method: "tools/call" }, null, 5]) {
    const before = structuredClone(message);
    admitArguments(message);
    expect(message).toEqual(before);
  }
});
