import { describe, expect, it } from "vitest";
import {
  currentProcess,
  formatIdentity,
  livenessOf,
  parseIdentity,
  type ProcessIdentity,
} from "../../../src/common/process-identity.ts";

const own = currentProcess();
const changed = (changes: Partial<ProcessIdentity>) => ({ ...own, ...changes });

describe("a process that owns something", () => {
  it.each([
    ["this one", own, "alive"],
    ["one whose pid another has by now", changed({ startTime: "1" }), "dead"],
    ["one of before the last start of the machine", changed({ boot: "another" }), "dead"],
    ["one of another machine", changed({ machine: "another" }), "unknown"],
    ["one of another PID namespace", changed({ pidNamespace: "1" }), "unknown"],
    ["this one, where there is no /proc", changed({ startTime: "" }), "alive"],
    ["a pid that nobody has, where there is no /proc", changed({ startTime: "", pid: 2 ** 22 + 1 }), "dead"],
  ] as const)("is judged right: %s", (_, identity, expected) => expect(livenessOf(identity)).toBe(expected));

  it("is what its label says, and nothing else is read out of one", () => {
    expect(parseIdentity(formatIdentity(own))).toEqual(own);
    for (const text of ["", "a:b:c:d:e", "a:b:c:0:e", "a:b:c:1", "a:b:c:1:e:f"])
      expect(parseIdentity(text)).toBeUndefined();
  });
});
