import {
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  unlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createSpill } from "../../../src/workspace/spill.ts";
import { WorkspaceFiles } from "../../../src/workspace/workspace-files.ts";

let root: string;
let workspace: string;
let outside: string;
let files: WorkspaceFiles;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-files-")));
  workspace = join(root, "workspace");
  outside = join(root, "outside");
  await mkdir(workspace);
  await mkdir(outside);
  files = await WorkspaceFiles.open(workspace, { owner: undefined });
});
afterEach(async () => {
  await files[Symbol.asyncDispose]();
  await rm(root, { recursive: true });
});

describe("files in the workspace", () => {
  it("are written as a whole, directories on the way made, and read back", async () => {
    await files.writeFile("images/a-1.png", new Uint8Array([1, 2, 3]));
    await files.writeFile("images/a-1.png", "again");
    expect(await readdir(join(workspace, "images"))).toEqual(["a-1.png"]);
    expect((await stat(join(workspace, "images/a-1.png"))).mode & 0o777).toBe(0o644);
    expect((await files.readFile("images/a-1.png", 100))?.toString()).toBe("again");
    expect(await files.readFile("images/none", 100)).toBeUndefined();
    expect(await files.list("images")).toMatchObject([{ name: "a-1.png", kind: "file", bytes: 5 }]);
    await files.remove("images/a-1.png");
    await files.remove("images/a-1.png");
    expect(await files.list("images")).toEqual([]);
  });

  it.runIf(process.getuid?.() === 0)("belong to the owner when the server is root", async () => {
    await using owned = await WorkspaceFiles.open(workspace, { owner: { uid: 1234, gid: 1235 } });
    await owned.writeFile("a/b/c.txt", "x");
    for (const path of ["a", "a/b", "a/b/c.txt"]) {
      expect(await stat(join(workspace, path))).toMatchObject({ uid: 1234, gid: 1235 });
    }
  });

  it("are not written through a directory that is a link", async () => {
    await symlink(outside, join(workspace, "images"));
    await expect(files.writeFile("images/a.png", "x")).rejects.toMatchObject({ code: "invalid-workspace" });
    await expect(files.mkdir("images/deep")).rejects.toMatchObject({ code: "invalid-workspace" });
    await expect(files.list("images")).rejects.toMatchObject({ code: "invalid-workspace" });
    expect(await readdir(outside)).toEqual([]);
  });

  it("replace a link in their place, and leave what it led to", async () => {
    await writeFile(join(outside, "secret"), "secret");
    await mkdir(join(workspace, "images"));
    await symlink(join(outside, "secret"), join(workspace, "images/a.png"));
    await expect(files.readFile("images/a.png", 100)).rejects.toMatchObject({ code: "invalid-workspace" });
    await expect(files.createFile("images/a.png")).rejects.toThrow("EEXIST");
    await files.writeFile("images/a.png", "picture");
    expect(await readFile(join(outside, "secret"), "utf8")).toBe("secret");
    expect(await readFile(join(workspace, "images/a.png"), "utf8")).toBe("picture");
  });

  it("are removed as links, not through them", async () => {
    await writeFile(join(outside, "kept"), "");
    await symlink(join(outside, "kept"), join(workspace, "link"));
    await files.remove("link");
    expect(await readdir(outside)).toEqual(["kept"]);
  });

  it("stay beneath the workspace while its directories are swapped for links all the time", async () => {
    const images = join(workspace, "images");
    const ignore = () => undefined; // the writer may have been faster
    const stop = new AbortController();
    const swap = (async () => {
      for (let n = 0; !stop.signal.aborted; n++) {
        await rename(images, join(workspace, `moved-${n}`)).catch(ignore);
        await symlink(outside, images).catch(ignore);
        await unlink(images).catch(ignore);
      }
    })();
    for (let n = 0; n < 300; n++) await files.writeFile(`images/${n}.png`, "x").catch(ignore);
    stop.abort();
    await swap;
    expect(await readdir(outside)).toEqual([]);
  });

  it("that are pipes or devices are not read and do not block", async () => {
    execFileSync("mkfifo", [join(workspace, "fifo")]);
    await expect(files.readFile("fifo", 100)).rejects.toMatchObject({ code: "invalid-workspace" });
  });

  it("larger than asked for are not read", async () => {
    await writeFile(join(workspace, "large"), "12345");
    await expect(files.readFile("large", 4)).rejects.toThrow("larger than 4 bytes");
  });

  it.each(["../x", "/etc/passwd", "a//b", "a/../b", ".", ""])("are never at %j", async (path) => {
    await expect(files.writeFile(path, "x")).rejects.toThrow("not a path beneath");
  });

  it("of a workspace that was replaced are an error of their own", async () => {
    await rm(workspace, { recursive: true });
    await mkdir(workspace);
    await expect(files.writeFile("a.txt", "x")).rejects.toMatchObject({ code: "workspace-gone" });
    await files.renew();
    await files.writeFile("a.txt", "x");
    expect(await readFile(join(workspace, "a.txt"), "utf8")).toBe("x");
  });

  it("are not renewed where there is none, or where a link leads elsewhere", async () => {
    await rm(workspace, { recursive: true });
    await expect(files.renew()).rejects.toMatchObject({ code: "workspace-gone" });
    await symlink("/", workspace);
    await expect(files.renew()).rejects.toMatchObject({ code: "workspace-gone" });
  });
});

describe("a spill", () => {
  it("takes pieces in order while it is open, and git ignores it", async () => {
    const spill = await createSpill(files, "0a1b-1");
    await Promise.all(Array.from({ length: 100 }, (_, n) => spill.append(`line ${n}\n`)));
    await spill[Symbol.asyncDispose]();
    await spill[Symbol.asyncDispose]();
    const lines = (await readFile(join(workspace, spill.path), "utf8")).split("\n");
    expect(lines).toHaveLength(101);
    expect(lines[99]).toBe("line 99");
    expect(await readFile(join(workspace, ".ipybox/.gitignore"), "utf8")).toBe("*\n");
  });

  it.for([
    { maxFiles: 3, maxBytes: 1e9 },
    { maxFiles: 100, maxBytes: 2 },
  ])("makes room by removing the oldest ones beyond %j", async (limits) => {
    for (let n = 0; n < 5; n++) {
      await using spill = await createSpill(files, `s-${n}`, limits);
      await spill.append("x");
      await spill[Symbol.asyncDispose]();
      await utimes(join(workspace, spill.path), n, n); // a file system's clock may tick slower than this loop
    }
    expect((await readdir(join(workspace, ".ipybox/out"))).sort()).toEqual(["s-2.txt", "s-3.txt", "s-4.txt"]);
  });

  it("is not written through a planted link", async () => {
    await mkdir(join(workspace, ".ipybox"));
    await symlink(outside, join(workspace, ".ipybox/out"));
    await expect(createSpill(files, "a")).rejects.toMatchObject({ code: "invalid-workspace" });
    expect(await readdir(outside)).toEqual([]);
  });
});
