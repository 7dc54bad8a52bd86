import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { DirectorySweep } from "../../../src/workspace/directory-sweep.ts";

let root: string;
let changed: string[];
let sweep: DirectorySweep;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-sweep-")));
  changed = [];
  sweep = new DirectorySweep((directory) => {
    changed.push(relative(root, directory));
    return Promise.resolve();
  });
  for (const name of ["a", "b"]) await mkdir(join(root, name));
  for (const name of ["a", "b"]) sweep.add(join(root, name));
});
afterEach(async () => {
  sweep[Symbol.dispose]();
  await rm(root, { recursive: true });
});

/** Until what was made just now is older than a tick of the file system's clock. */
const settle = async () => {
  await expect
    .poll(async () => {
      changed = [];
      await sweep.look();
      return changed;
    })
    .toEqual([]);
};

it("finds the directories in which something was made or removed since they were last looked at", async () => {
  await settle();
  await writeFile(join(root, "b/x"), "");
  await sweep.look();
  expect(changed).toEqual(["b"]);
  await settle();
  await rm(join(root, "b/x"));
  await sweep.look();
  expect(changed).toEqual(["b"]);
});

it("takes no directory for unchanged whose next change its time might not tell", async () => {
  await writeFile(join(root, "a/x"), "");
  sweep.add(join(root, "a"));
  await sweep.look();
  expect(changed).toContain("a");
});

it("goes round while it is asked to, for what was added since too", async () => {
  await settle();
  sweep.start();
  await mkdir(join(root, "c"));
  sweep.add(join(root, "c"));
  await expect.poll(() => changed).toContain("c");
  await writeFile(join(root, "a/x"), "");
  await expect.poll(() => changed).toContain("a");
});

it("forgets what is no directory any more, without following a link", async () => {
  await rm(join(root, "a"), { recursive: true });
  await symlink(root, join(root, "a"));
  await settle();
  await rm(join(root, "a"));
  await mkdir(join(root, "a"));
  await sweep.look();
  expect(changed).toEqual([]);
});
