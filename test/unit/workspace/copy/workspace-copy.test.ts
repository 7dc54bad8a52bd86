import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { type ChangesRequest, WorkspaceCopy } from "../../../../src/workspace/copy/workspace-copy.ts";

const signal = new AbortController().signal;

/** The sandbox's end of the wire: answers what a test says, and keeps what it was sent. */
class ScriptedSandbox {
  answer: readonly (object | string | Buffer)[] = [];
  refused: readonly string[] = [];
  readonly requests: ChangesRequest[] = [];
  received: string[] = [];

  changes = (request: ChangesRequest) => {
    this.requests.push(request);
    return Promise.resolve(toStream(this.answer));
  };

  receive = async (entries: AsyncIterable<Buffer>, applied: boolean) => {
    let bytes = Buffer.alloc(0);
    for await (const piece of entries) bytes = Buffer.concat([bytes, piece]);
    this.received = [`applied=${applied}`];
    while (bytes.length > 0) {
      const end = bytes.indexOf("\n");
      const entry = JSON.parse(bytes.toString("utf8", 0, end)) as { type: string; path: string; size?: number };
      const content = bytes.subarray(end + 1, end + 1 + (entry.size ?? 0));
      this.received.push([entry.type, entry.path, ...(content.length > 0 ? [content.toString()] : [])].join(" "));
      bytes = bytes.subarray(end + 1 + content.length);
    }
    return { refused: this.refused };
  };
}

async function* toStream(pieces: readonly (object | string | Buffer)[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    await Promise.resolve();
    if (Buffer.isBuffer(piece)) yield piece;
    else yield Buffer.from(typeof piece === "string" ? piece : `${JSON.stringify(piece)}\n`);
  }
}

const END = { type: "end", complete: true };
const file = (path: string, content: string, mode = 0o644): (object | string)[] => [
  { type: "file", path, mode, mtimeMs: 1_700_000_000_000, size: Buffer.byteLength(content) },
  content,
];
const link = (path: string, target: string) => ({ type: "link", path, target });
const gone = (path: string) => ({ type: "gone", path });

let root: string;
let workspace: string;
let outside: string;
let sandbox: ScriptedSandbox;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-copy-")));
  workspace = join(root, "workspace");
  outside = join(root, "outside");
  await mkdir(workspace);
  await mkdir(outside);
  sandbox = new ScriptedSandbox();
});
afterEach(() => rm(root, { recursive: true }));

const at = (path: string) => join(workspace, path);
const put = async (path: string, content = path) => {
  await mkdir(join(at(path), ".."), { recursive: true });
  await writeFile(at(path), content);
};
const options = (shields: { mask?: string[]; protect?: string[]; unprotect?: string[] } = {}) => ({
  workspace,
  owner: undefined,
  shields: { mask: [], protect: [], unprotect: [], ...shields },
  wire: sandbox,
});
const open = (shields = {}) => WorkspaceCopy.open(options(shields), signal);
/** What a push sends. */
const push = async (copy: WorkspaceCopy) => {
  sandbox.received = [];
  await copy.push(signal);
  return sandbox.received;
};
const pull = (copy: WorkspaceCopy, ...answer: readonly (object | string | Buffer)[]) => {
  sandbox.answer = [...answer, END];
  return copy.pull(signal);
};

describe("what goes into a sandbox", () => {
  it("is at first everything but what is masked or protected, then what changed", async () => {
    for (const path of ["a/b.txt", ".env", "a/.env.local", ".git/config", "a/.git/HEAD", "CLAUDE.md", "secret.pem"])
      await put(path);
    await symlink("a/b.txt", at("inward"));
    await symlink("/etc/passwd", at("outward"));
    await symlink("secret.txt", at(".env.prod"));
    await put("secret.txt");
    execFileSync("mkfifo", [at("fifo")]);
    await using copy = await open({ mask: ["*.pem"] });
    expect(sandbox.received).toEqual(["applied=false", "directory a", "link inward", "file a/b.txt a/b.txt"]);
    expect(await push(copy)).toEqual([]);
    await put("a/b.txt", "changed");
    await put("new/c.txt", "");
    await unlink(at("inward"));
    expect(await push(copy)).toEqual([
      "applied=false",
      "gone inward",
      "directory new",
      "file a/b.txt changed",
      "file new/c.txt",
    ]);
    await rm(at("new"), { recursive: true });
    await put("new", "a file by now");
    expect((await push(copy)).slice(1)).toEqual(["gone new/c.txt", "gone new", "file new a file by now"]);
  });

  it("is sent again when the sandbox did not take it", async () => {
    await using copy = await open();
    await put("a", "1");
    sandbox.refused = ["a"];
    await copy.push(signal);
    expect(await push(copy)).toEqual(["applied=false", "file a 1"]);
  });

  it("must all be taken at first", async () => {
    await put("a");
    sandbox.refused = ["a"];
    await expect(open()).rejects.toMatchObject({ code: "sandbox-start-failed" });
  });

  it("has a limit of its number", async () => {
    for (const name of ["a", "b", "c"]) await put(name);
    const limits = { maxEntries: 2, maxFileBytes: 1e9, maxBytes: 1e9 };
    await expect(WorkspaceCopy.open({ ...options(), limits }, signal)).rejects.toMatchObject({
      code: "invalid-workspace",
      message: expect.stringContaining("more than 2 files") as string,
    });
  });

  it("has a limit of its size", async () => {
    execFileSync("truncate", ["-s", "3G", at("sparse")]);
    await expect(open()).rejects.toMatchObject({
      code: "invalid-workspace",
      message: expect.stringContaining("3072 MiB") as string,
    });
  });
});

describe("what comes from a sandbox", () => {
  it("is applied: files, directories, links, modes, what is gone", async () => {
    await put("old/a.txt");
    await using copy = await open();
    const report = await pull(
      copy,
      gone("old/a.txt"),
      gone("old"),
      { type: "directory", path: "new" },
      ...file("new/b.txt", "b", 0o755),
      ...file("empty", ""),
      link("new/l", "../empty"),
    );
    expect(report).toMatchObject({ conflicts: [], left: [], complete: true });
    expect(await readdir(workspace)).toEqual(["empty", "new"]);
    expect(await readFile(at("new/b.txt"), "utf8")).toBe("b");
    expect(await stat(at("new/b.txt"))).toMatchObject({ mode: 0o100755, mtimeMs: 1_700_000_000_000 });
    expect(await readlink(at("new/l"))).toBe("../empty");
    expect(await push(copy)).toEqual([]);
    await pull(copy, ...file("new/b.txt", "again"));
    expect(sandbox.requests.map(({ applied }) => applied)).toEqual([false, true]);
    expect(await readFile(at("new/b.txt"), "utf8")).toBe("again");
  });

  it("is written beside what changed on the host, too, which then goes into the sandbox", async () => {
    await put("both", "1");
    await put("removed there", "1");
    await put("removed here", "1");
    await using copy = await open();
    await put("both", "by the user");
    await put("removed there", "by the user");
    await unlink(at("removed here"));
    await put("new on both", "by the user");
    const { conflicts } = await pull(
      copy,
      gone("removed there"),
      ...file("both", "by the cell"),
      ...file("removed here", "by the cell"),
      ...file("new on both", "by the cell"),
    );
    expect(conflicts).toEqual([
      { path: "removed there", beside: undefined },
      { path: "both", beside: "both.from-sandbox" },
      { path: "removed here", beside: "removed here.from-sandbox" },
      { path: "new on both", beside: "new on both.from-sandbox" },
    ]);
    for (const path of ["both", "removed there", "new on both"])
      expect(await readFile(at(path), "utf8")).toBe("by the user");
    for (const path of ["both", "removed here"])
      expect(await readFile(at(`${path}.from-sandbox`), "utf8")).toBe("by the cell");
    expect(await push(copy)).toEqual(expect.arrayContaining(["gone removed here", "file both by the user"]));
    await put("both", "once more");
    expect((await pull(copy, ...file("both", "by a cell"))).conflicts[0]?.beside).toBe("both.from-sandbox-2");
  });

  it("never removes what both sides did not have", async () => {
    await put(".env", "SECRET=1");
    await put("kept/.env", "SECRET=1");
    await using copy = await open();
    await put("of the user");
    await pull(
      copy,
      gone("of the user"),
      gone(".env"),
      gone("kept/.env"),
      gone("kept"),
      gone("none"),
      gone("../outside"),
    );
    expect((await readdir(workspace)).sort()).toEqual([".env", "kept", "of the user"]);
    expect(existsSync(outside)).toBe(true);
  });

  it("has no setuid, setgid and sticky bits", async () => {
    await using copy = await open();
    await pull(copy, ...file("x", "", 0o7755));
    expect((await stat(at("x"))).mode & 0o7777).toBe(0o755);
  });

  it.each([
    ["..", "name"],
    ["../outside/x", "name"],
    ["a/../../outside/x", "name"],
    ["/etc/x", "name"],
    ["a//b", "name"],
    ["./a", "name"],
    ["a/", "name"],
    ["a\0b", "name"],
    ["a\nb", "name"],
    ["a\rb", "name"],
    ["a\u001b[2Jb", "name"],
    ["\ud800", "name"],
    ["x".repeat(256), "name"],
    [Array.from({ length: 100 }, () => "d").join("/"), "name"],
    [".ipybox-0123456789abcdef.tmp", "name"],
    [".env", "shielded"],
    [".ENV", "shielded"],
    [".e\u200bnv", "shielded"],
    ["ｅ/.ｅnv.local", "shielded"],
    [".env/x", "shielded"],
    [".git/hooks/pre-commit", "shielded"],
    ["sub/.GIT/hooks/pre-commit", "shielded"],
    [".g\u200cit/config", "shielded"],
    ["Claude.md", "shielded"],
    [".mcp.json", "shielded"],
    [".vscode/tasks.json", "shielded"],
    ["KEYS/x.PEM", "shielded"],
    ["docs/fixed.md", "shielded"],
  ])("is left there when its path is %j", async (path, why) => {
    await using copy = await open({ mask: ["*.pem"], protect: ["Docs/Fixed.md"] });
    const answer = path.includes("\ud800")
      ? [Buffer.from('{"type":"file","path":"\\ud800","mode":420,"mtimeMs":0,"size":1}\nx')]
      : file(path, "x");
    const { left } = await pull(copy, ...answer, ...file("after", "x"));
    expect(left).toEqual([{ path, why }]);
    expect(await readdir(workspace)).toEqual(["after"]);
    expect(await readdir(outside)).toEqual([]);
  });

  it("may be what --unprotect lifts", async () => {
    await using copy = await open({ unprotect: [".mcp.json", ".env"] });
    expect((await pull(copy, ...file(".mcp.json", "{}"), ...file(".env", "X=1"))).left).toEqual([]);
  });

  it.each([
    ["l", "/etc/passwd"],
    ["l", ".."],
    ["l", "../outside"],
    ["a/l", "../../outside"],
    ["a/l", "b/../../../outside"],
    ["a/l", "b/.."],
    ["l", "a\nb"],
    ["l", "a//b"],
  ])("is no link at %s to %j", async (path, target) => {
    await using copy = await open();
    expect((await pull(copy, link(path, target))).left).toEqual([{ path, why: "outward" }]);
    expect(await readdir(workspace)).toEqual([]);
  });

  it("does not leave the workspace through links that are each inward", async () => {
    await using copy = await open();
    const { left } = await pull(
      copy,
      { type: "directory", path: "p/q" },
      link("p/q/r", "../.."),
      link("t", "p/q/r/../outside"),
      ...file("p/q/r/x", "x"),
    );
    expect(left).toEqual([
      { path: "t", why: "outward" },
      { path: "p/q/r/x", why: "in-the-way" },
    ]);
    expect(existsSync(at("x"))).toBe(false);
  });

  it("is not written through a directory that became a link between two entries", async () => {
    await put("d/x");
    await using copy = await open();
    const { left } = await pull(copy, gone("d/x"), gone("d"), link("d", "e"), ...file("d/planted", "x"));
    expect(left).toEqual([{ path: "d/planted", why: "in-the-way" }]);
    await rm(at("d"));
    await symlink(outside, at("d"));
    await pull(copy, ...file("d/planted", "x"), { type: "directory", path: "d/deep" }, gone("d/x"));
    expect(await readdir(outside)).toEqual([]);
  });

  it("stays beneath the workspace while its directories are swapped for links all the time", async () => {
    await put("d/x");
    await using copy = await open();
    const stop = new AbortController();
    const ignore = () => undefined; // the other side may have been faster
    const swap = (async () => {
      for (let n = 0; !stop.signal.aborted; n++) {
        await rename(at("d"), at(`moved-${n}`)).catch(ignore);
        await symlink(outside, at("d")).catch(ignore);
        await unlink(at("d")).catch(ignore);
      }
    })();
    for (let n = 0; n < 30; n++)
      await pull(copy, ...Array.from({ length: 10 }, (_, i) => file(`d/${n}-${i}`, "x")).flat());
    stop.abort();
    await swap;
    expect(await readdir(outside)).toEqual([]);
  });

  it("replaces a link in its place, and leaves what that led to", async () => {
    await writeFile(join(outside, "kept"), "kept");
    await using copy = await open();
    await pull(copy, ...file("x", "1"));
    await unlink(at("x"));
    await symlink(join(outside, "kept"), at("x"));
    expect((await pull(copy, ...file("x", "2"))).conflicts).toHaveLength(1);
    expect(await readFile(join(outside, "kept"), "utf8")).toBe("kept");
  });

  it("gives way to something else of the host's", async () => {
    await put("file");
    await mkdir(at("directory"));
    await put("directory/inside");
    await using copy = await open();
    await put("new file");
    const { left, conflicts } = await pull(
      copy,
      ...file("new file/x", "x"),
      { type: "directory", path: "new file" },
      ...file("directory", "x"),
    );
    expect(left.map(({ why }) => why)).toEqual(["in-the-way", "in-the-way", "in-the-way"]);
    expect(conflicts).toEqual([]);
  });

  it.each([
    ["no end", [...file("a", "x")]],
    ["a file that is cut off", [{ type: "file", path: "a", mode: 0, mtimeMs: 0, size: 10 }, "x"]],
    ["no JSON", ["\n"]],
    ["an unknown type", [{ type: "device", path: "a" }, END]],
    ["a hard link", [{ type: "hardlink", path: "a", target: "b" }, END]],
    ["a negative size", [{ type: "file", path: "a", mode: 0, mtimeMs: 0, size: -1 }, END]],
    ["a line without end", [Buffer.alloc(70_000, "x")]],
    ["a file above the limit", [{ type: "file", path: "a", mode: 0, mtimeMs: 0, size: 2 ** 40 }]],
  ])("is an error as a whole with %s, and asked for again", async (_, answer) => {
    await using copy = await open();
    sandbox.answer = answer;
    await expect(copy.pull(signal)).rejects.toThrow();
    expect((await readdir(workspace)).filter((name) => name !== "a")).toEqual([]);
    expect((await pull(copy, ...file("a", "x"))).conflicts).toEqual([]);
    expect(sandbox.requests.map(({ applied }) => applied)).toEqual([false, false]);
    expect(await readFile(at("a"), "utf8")).toBe("x");
  });

  it("is an error beyond the number of entries that were asked for", async () => {
    const limits = { maxEntries: 2, maxFileBytes: 1e9, maxBytes: 1e9 };
    await using copy = await WorkspaceCopy.open({ ...options(), limits }, signal);
    sandbox.answer = Array.from({ length: 6 }, () => gone("x"));
    await expect(copy.pull(signal)).rejects.toThrow("more than it was asked for");
  });

  it("comes in pieces of any size", async () => {
    await using copy = await open();
    const bytes = Buffer.concat(
      [...file("a", "x\ny".repeat(100)), END].map((piece) =>
        Buffer.from(typeof piece === "string" ? piece : `${JSON.stringify(piece)}\n`),
      ),
    );
    sandbox.answer = [...bytes].map((byte) => Buffer.from([byte]));
    await copy.pull(signal);
    expect(await readFile(at("a"), "utf8")).toBe("x\ny".repeat(100));
  });

  it("is not applied where the host's own permissions forbid", async () => {
    await put("d/x");
    await using copy = await open();
    await chmod(at("d"), 0o555);
    const { left } = await pull(copy, ...file("d/x", "by a cell"));
    expect(left).toEqual(process.getuid?.() === 0 ? [] : [{ path: "d/x", why: "in-the-way" }]);
    await chmod(at("d"), 0o755);
  });
});
