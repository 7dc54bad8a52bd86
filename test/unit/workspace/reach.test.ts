import { describe, expect, test } from "vitest";

import { type Permissions, reaches } from "../../../src/workspace/reach.ts";

const cell = { uid: 1000, gid: 1000 };
const of = (uid: number, mode: number, gid = uid): Permissions => ({ uid, gid, mode });
const root = of(0, 0o40755);

describe("a file that cells could read or replace", () => {
  test.for<[string, Permissions[], Permissions, boolean]>([
    ["their own, whatever its mode", [root], of(1000, 0o100000), true],
    ["another's that all may read", [root], of(0, 0o100644), true],
    ["another's that nobody else may read", [root], of(0, 0o100600), false],
    ["another's that their group may read", [root], of(0, 0o100640, 1000), true],
    ["another's that another group may read", [root], of(0, 0o100640), false],
    ["another's that all but their group may read", [root], of(0, 0o100604, 1000), false],
    ["in a directory that is closed to them", [root, of(0, 0o40700)], of(1000, 0o100644), false],
    ["in a directory of theirs", [root, of(1000, 0o40755)], of(0, 0o100600), true],
    ["in a closed directory below one of theirs", [root, of(1000, 0o40700), of(0, 0o40700)], of(0, 0o100600), true],
    ["another's in /tmp", [root, of(0, 0o41777)], of(0, 0o100600), false],
    ["another's in a /tmp that is not sticky", [root, of(0, 0o40777)], of(0, 0o100600), true],
  ])("%s", ([, directories, file, expected]) => {
    expect(reaches(directories, file, cell)).toBe(expected);
  });
});
