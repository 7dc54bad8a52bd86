import { expect, test } from "vitest";

import { wellFormed } from "../../../src/common/well-formed.ts";

test.for([
  ["the first half of a pair", "a\ud800b", "a\ufffdb"],
  ["the second half", "\udfff", "\ufffd"],
  ["two halves the wrong way round", "\ude00\ud83d", "\ufffd\ufffd"],
  ["one behind a backslash", "\\\ud800", "\\\ufffd"],
  ["a whole pair", "😀", "😀"],
  ["text that looks like an escape", "\\ud800 \\\\ud800 \\", "\\ud800 \\\\ud800 \\"],
  ["a letter beside them", "\ud7ff\ue000", "\ud7ff\ue000"],
])("JSON with %s is Unicode", ([, text, sent]) => {
  const json = wellFormed(JSON.stringify({ text }));
  expect(JSON.parse(json)).toEqual({ text: sent });
  expect(json).not.toMatch(/(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]/);
});
