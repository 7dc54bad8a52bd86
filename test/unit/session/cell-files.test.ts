import { chmod, mkdtemp, readFile, readdir, realpath, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLogger } from "../../../src/common/logger.ts";
import type { Picture } from "../../../src/kernel/cell-output.ts";
import { CellFiles } from "../../../src/session/cell-files.ts";
import { noticesOfPictures } from "../../../src/session/cell-notices.ts";
import { WorkspaceFiles } from "../../../src/workspace/workspace-files.ts";

let workspace = "";
let files: WorkspaceFiles;
let cellFiles: CellFiles;
beforeEach(async () => {
  workspace = await realpath(await mkdtemp(join(tmpdir(), "test-cell-files-")));
  files = await WorkspaceFiles.open(workspace, { owner: undefined });
  cellFiles = new CellFiles({ files, sessionId: "s", logger: silentLogger });
});
afterEach(async () => {
  await files[Symbol.asyncDispose]();
  await chmod(workspace, 0o700);
  await rm(workspace, { recursive: true });
});

const PNG_START = Buffer.from("89504e470d0a1a0a", "hex");
const pngOf = (bytes: number) => Buffer.concat([PNG_START, Buffer.alloc(bytes - PNG_START.length)]);
const picture = (data: Buffer): Picture => ({ mimeType: "image/png", data: data.toString("base64") });
const unshrinkable = () => Promise.resolve(undefined);

describe("output over the budget", () => {
  test("is spilled whole, whatever pieces it is written in", async () => {
    const text = `${"x".repeat(4 * 2 ** 20 - 1)}😀${"y".repeat(100)}`; // the pair lies across the end of a piece
    const { truncation } = await cellFiles.fit(text, 1000);
    expect(truncation).toMatchObject({
      shownChars: 1000,
      totalChars: text.length - 1,
      spill: { id: "s-1", path: ".ipybox/out/s-1.txt", bytes: Buffer.byteLength(text) },
    });
    expect((await readFile(join(workspace, ".ipybox/out/s-1.txt"), "utf8")) === text).toBe(true);
    expect((await cellFiles.readOutput("s-1")) === text).toBe(true);
  });

  test("is cut all the same when it can't be spilled", async () => {
    await symlink("/tmp", join(workspace, ".ipybox"));
    expect(await cellFiles.fit("abc", 1)).toMatchObject({ text: "a", truncation: { totalChars: 3, spill: undefined } });
  });

  test("is found by ids of ours only", async () => {
    expect(await cellFiles.readOutput("../../x")).toBeUndefined();
    expect(await cellFiles.readOutput("s-9")).toBeUndefined();
  });
});

describe("pictures of a cell", () => {
  test("are numbered through the session, and a small one is its own block", async () => {
    const data = pngOf(100);
    const { saved } = await cellFiles.save([picture(data), picture(data)], unshrinkable);
    expect(saved.map(({ path }) => path)).toEqual(["images/s-1.png", "images/s-2.png"]);
    expect(saved[0]?.block).toEqual({ mimeType: "image/png", data: data.toString("base64") });
    expect(await readFile(join(workspace, "images/s-2.png"))).toEqual(data);
    expect((await cellFiles.save([picture(data)], unshrinkable)).saved[0]?.path).toBe("images/s-3.png");
  });

  test("over 1 MiB are scaled down for their block, and whole in their file", async () => {
    const large = pngOf(2 ** 20 + 1);
    const asked: number[] = [];
    const shrink = (data: Buffer, maxBytes: number) => {
      asked.push(data.length, maxBytes);
      return Promise.resolve(pngOf(50));
    };
    const { saved } = await cellFiles.save([picture(large)], shrink);
    expect(asked).toEqual([large.length, 2 ** 20]);
    expect(saved[0]?.block?.data).toBe(pngOf(50).toString("base64"));
    expect((await readFile(join(workspace, "images/s-1.png"))).length).toBe(large.length);
  });

  test.for([
    ["nothing", undefined],
    ["what is no picture", Buffer.from("<html>")],
    ["what is as large as before", pngOf(2 ** 20 + 1)],
  ] as const)("have no block when the sandbox makes %s of them", async ([, made]) => {
    const { saved } = await cellFiles.save([picture(pngOf(2 ** 20 + 1))], () => Promise.resolve(made));
    expect(saved).toEqual([{ path: "images/s-1.png", block: undefined }]);
  });

  test("that are too large to be scaled down are files all the same", async () => {
    const shrink = () => Promise.reject(new Error("it would be asked for too much"));
    const { saved } = await cellFiles.save([picture(pngOf(64 * 2 ** 20 + 1))], shrink);
    expect(saved).toEqual([{ path: "images/s-1.png", block: undefined }]);
    expect((await stat(join(workspace, "images/s-1.png"))).size).toBe(64 * 2 ** 20 + 1);
    expect(noticesOfPictures(saved, 0)).toEqual(["[Too large to be shown here, and not scaled down: images/s-1.png]"]);
  });

  test("that are none are left out; SVG is a file without a block", async () => {
    const svg: Picture = { mimeType: "image/svg+xml", data: "<svg/>" };
    const { saved } = await cellFiles.save([picture(Buffer.from("no picture")), svg], unshrinkable);
    expect(saved).toEqual([{ path: "images/s-1.svg", block: undefined }]);
    expect(await readFile(join(workspace, "images/s-1.svg"), "utf8")).toBe("<svg/>");
  });

  test("beyond the hundredth are counted, not kept", async () => {
    const many = Array.from({ length: 103 }, () => picture(pngOf(20)));
    const { saved, leftOut } = await cellFiles.save(many, unshrinkable);
    expect([saved.length, leftOut]).toEqual([100, 3]);
    expect(await readdir(join(workspace, "images"))).toHaveLength(100);
  });

  test("are shown without a file where none can be written", async () => {
    await symlink("/tmp", join(workspace, "images"));
    const { saved } = await cellFiles.save([picture(pngOf(20))], unshrinkable);
    expect(saved).toMatchObject([{ path: undefined, block: { mimeType: "image/png" } }]);
    expect(noticesOfPictures(saved, 3)).toEqual([
      "[1 of 1 pictures could not be saved under images/]",
      "[1 pictures are kept of a cell: 3 more were left out]",
    ]);
  });
});
