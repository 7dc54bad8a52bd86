import { mkdir, mkdtemp, realpath, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { DirectoryWatch } from "../../../src/workspace/directory-watch.ts";

let root: string;
let watch: DirectoryWatch;
/** `directory: name` of what was heard of. */
let heard: Set<string>;
const onFull = vi.fn();
const onUnwatched = vi.fn();
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-directories-")));
  await mkdir(join(root, "a/b"), { recursive: true });
  heard = new Set();
  onFull.mockClear();
  onUnwatched.mockClear();
  watch = new DirectoryWatch({
    onEvent: (directory, name) => heard.add(`${relative(root, directory)}: ${String(name)}`),
    onFull,
    onUnwatched,
    maxDirectories: 3,
  });
  for (const path of [root, join(root, "a"), join(root, "a/b")]) watch.add(path);
});
afterEach(async () => {
  watch[Symbol.dispose]();
  await rm(root, { recursive: true });
});

const put = (path: string) => writeFile(join(root, path), "x");

it("hears of what happens in each directory, and of nothing in one that was let go with the one above it", async () => {
  await put("a/b/first");
  await expect.poll(() => heard).toContain("a/b: first");
  watch.remove(join(root, "a"));
  await put("a/b/second");
  await put("last");
  await expect.poll(() => heard).toContain(": last");
  expect(heard).not.toContain("a/b: second");
});

it("says once that there is no room, names each directory that is left out, and has some again where a directory was let go", async () => {
  for (const name of ["c", "d"]) {
    await mkdir(join(root, name));
    watch.add(join(root, name));
  }
  expect(onFull.mock.calls).toHaveLength(1);
  expect(onUnwatched.mock.calls).toEqual([[join(root, "c")], [join(root, "d")]]);
  watch.remove(join(root, "a"));
  watch.add(join(root, "c"));
  await put("c/new");
  await expect.poll(() => heard).toContain("c: new");
});

it("watches another directory that took the place of one", async () => {
  await rename(join(root, "a/b"), join(root, "z"));
  await mkdir(join(root, "a/b"));
  watch.add(join(root, "a/b"));
  await put("a/b/new");
  await expect.poll(() => heard).toContain("a/b: new");
});
