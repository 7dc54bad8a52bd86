import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Walk, type WalkOptions } from "../../../src/workspace/walk.ts";

let root: string;
beforeEach(async () => (root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-walk-")))));
afterEach(() => rm(root, { recursive: true }));

const put = (...paths: string[]) => {
  for (const path of paths) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), "");
  }
};
const walk = async (options: Partial<WalkOptions> = {}) => {
  const found: string[] = [];
  for await (const { path } of new Walk(root, { looksInto: () => true, ...options }).entries()) {
    found.push(relative(root, path));
  }
  return found;
};

describe("a walk", () => {
  it("goes broad before deep and leaves the directories of tools for the end, however deep a project is", async () => {
    put("node_modules/x/y", "a/b/c/d", "a/.venv/bin/python");
    const found = await walk();
    const after = (earlier: string, later: string) =>
      expect(found.indexOf(later)).toBeGreaterThan(found.indexOf(earlier));
    after("a", "a/b");
    after("a/b/c/d", "node_modules/x");
    after("a/b/c/d", "a/.venv/bin");
    expect(found).toContain("node_modules/x/y");
  });

  it("looks only where it is told to", async () => {
    put("a/b", "c/d");
    expect((await walk({ looksInto: (directory) => directory.endsWith("/a") })).sort()).toEqual(["a", "a/b", "c"]);
  });

  it("follows no link, not even one that takes the place of a directory on the way at that moment", async () => {
    put("outside/b/secret", "workspace/a/b/file");
    const found: string[] = [];
    const onDirectory = (path: string) => {
      if (!path.endsWith("/a/b")) return;
      renameSync(join(root, "workspace/a"), join(root, "workspace/z"));
      symlinkSync(join(root, "outside"), join(root, "workspace/a"));
    };
    const swapped = new Walk(join(root, "workspace"), { looksInto: () => true, onDirectory });
    for await (const { path } of swapped.entries()) found.push(relative(join(root, "workspace"), path));
    expect(found).toEqual(["a", "a/b"]);
  });
});
