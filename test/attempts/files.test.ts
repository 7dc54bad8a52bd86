import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";

import { baseEnvironment, errorCodeOf, type TestClient, TestDirectory, textOf, upstream } from "../helpers/client.ts";
import { SessionUnderAttack, withoutWalls } from "./session-under-attack.ts";

const SECRET = "secret-of-the-masked-file";
let attacked: SessionUnderAttack;
/** A directory of the user's beside the workspace, at the same path inside, where nothing must arrive. */
let outside: string;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({
    prepare: (workspace, directory) => {
      outside = directory.make("outside");
      mkdirSync(join(workspace, "nested/deep"), { recursive: true });
      execFileSync("git", ["init", "--quiet", workspace]);
      for (const name of [".env", "nested/deep/.env.local"]) writeFileSync(join(workspace, name), `KEY=${SECRET}\n`);
      for (const name of ["CLAUDE.md", ".mcp.json", ".envrc"]) writeFileSync(join(workspace, name), "the user's\n");
      for (const name of [".vscode", ".claude", ".github/workflows"]) {
        mkdirSync(join(workspace, name), { recursive: true });
      }
    },
  });
});
afterAll(() => attacked[Symbol.asyncDispose]());

const PLOT = `from IPython.display import Image, display
import base64
display(Image(base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")))`;
const link = (target: string, name: string) =>
  attacked.client.text(`import os, shutil
shutil.rmtree("${name}", ignore_errors=True) if not os.path.islink("${name}") else os.unlink("${name}")
os.symlink("${target}", "${name}")`);

describe("the host follows no link in the workspace:", () => {
  test("a picture goes nowhere through a link in place of images/", async () => {
    await link(outside, "images");
    const result = await attacked.client.cell(PLOT);
    expect(readdirSync(outside)).toEqual([]);
    expect(result.content.some(({ type }) => type === "image")).toBe(true);
    await attacked.client.text(`os.unlink("images")`);
    await attacked.client.cell(PLOT);
    expect(readdirSync(join(attacked.workspace, "images"))).not.toEqual([]);
  });

  test("a picture overwrites nothing through links with the names of the next ones", async () => {
    const victim = join(outside, "victim");
    writeFileSync(victim, "mine");
    await attacked.client.text(`import re
name = sorted(os.listdir("images"))[-1]
session, number = re.fullmatch(r"(.*)-(\\d+)\\.png", name).groups()
for n in range(int(number), int(number) + 20):
    path = f"images/{session}-{n}.png"
    if os.path.lexists(path): os.unlink(path)
    os.symlink("${victim}", path)`);
    await attacked.client.cell(PLOT);
    expect(readFileSync(victim, "utf8")).toBe("mine");
    execFileSync("rm", [victim]);
  });

  test("long output goes nowhere through links in place of .ipybox/ and .ipybox/out/", async () => {
    for (const name of [".ipybox", ".ipybox/out"]) {
      await attacked.client.text(`import os; os.path.lexists(".ipybox") or os.mkdir(".ipybox")`);
      await link(outside, name);
      const result = await attacked.client.cell(`print("x" * 20_000)`);
      expect(textOf(result)).toMatch(/^x{100}/);
      expect(readdirSync(outside)).toEqual([]);
      await attacked.client.text(`os.unlink("${name}")`);
    }
    await attacked.client.cell(`print("x" * 20_000)`);
    expect(readdirSync(join(attacked.workspace, ".ipybox/out"))).toHaveLength(1);
  });

  test("generated code goes nowhere through links in place of mcptools/ and a server's package", async () => {
    for (const name of ["mcptools", "mcptools/memory"]) {
      await attacked.client.text(`import os; os.path.lexists("mcptools") or os.mkdir("mcptools")`);
      await link(outside, name);
      await attacked.client.call("register_mcp_server", { server_name: "memory", server_params: upstream("memory") });
      expect(readdirSync(outside)).toEqual([]);
      await attacked.client.text(`os.path.islink("${name}") and os.unlink("${name}")`);
    }
  });

  test("nothing arrives outside while directories are exchanged under running writes", async () => {
    await attacked.client.text(`import subprocess, sys
swapper = subprocess.Popen([sys.executable, "-c", """
import os
os.makedirs("images", exist_ok=True); os.makedirs(".ipybox/out", exist_ok=True)
os.symlink("${outside}", "images-link"); os.symlink("${outside}", "out-link")
while True:
    for name, link in (("images", "images-link"), (".ipybox/out", "out-link")):
        try:
            os.rename(name, "aside"); os.rename(link, name); os.rename(name, link); os.rename("aside", name)
        except OSError: pass
"""])`);
    for (let n = 0; n < 12; n++) await attacked.client.cell(`${PLOT}\nprint("y" * 20_000)`);
    await attacked.client.text("swapper.kill(); swapper.wait()");
    expect(readdirSync(outside)).toEqual([]);
    await attacked.client.text(
      `[os.path.islink(n) and os.unlink(n) for n in ("images", "images-link", "out-link", "aside", ".ipybox/out")]`,
    );
  });

  test("a FIFO in the way of a picture, a spill or a package blocks nothing", async () => {
    await attacked.client.text(`import shutil
for name in ("images", ".ipybox", "mcptools"):
    shutil.rmtree(name, ignore_errors=True)
    os.mkfifo(name)`);
    const result = await attacked.client.cell(`${PLOT}\nprint("x" * 20_000)`);
    expect(textOf(result)).toMatch(/^x{100}|x{100}/);
    const registered = await attacked.client.call("register_mcp_server", {
      server_name: "memory",
      server_params: upstream("memory"),
    });
    expect(registered.isError).toBe(true);
    await attacked.client.text(`[os.unlink(name) for name in ("images", ".ipybox", "mcptools")]`);
  });
});

describe("masked files: a cell can't read one", () => {
  const MASKED = [".env", "nested/deep/.env.local"];
  test.for([
    ["by its name", (path: string) => `open("${path}").read()`],
    ["by the other path", (path: string) => `open("/workspace/${path}").read()`],
    [
      "through a link",
      (path: string) => `os.path.lexists("l") and os.unlink("l")\nos.symlink("${path}", "l")\nopen("l").read()`,
    ],
    ["through /proc/self/root", (path: string) => `open("/proc/self/root" + os.path.abspath("${path}")).read()`],
    ["through init's view of the file system", (path: string) => `open("/proc/1/root/workspace/${path}").read()`],
    [
      "through a directory's descriptor",
      (path: string) =>
        `os.read(os.open(os.path.basename("${path}"), os.O_RDONLY, dir_fd=os.open(os.path.dirname(os.path.abspath("${path}")), os.O_RDONLY)), 100)`,
    ],
    ["by a hard link", (path: string) => `os.link("${path}", "hard")\nopen("hard").read()`],
    ["by moving it away", (path: string) => `os.rename("${path}", "moved")\nopen("moved").read()`],
    ["by removing what lies over it", (path: string) => `os.unlink("${path}")\nopen("${path}").read()`],
    ["by unmounting", (path: string) => `checked(libc.umount2(b"${path}", 0))\nopen("${path}").read()`],
    [
      "by its file handle",
      (path: string) => `handle = (ctypes.c_int * 40)(128)
mount = ctypes.c_int()
directory = os.open(".", os.O_RDONLY)
checked(libc.name_to_handle_at(-100, b"${path}", handle, ctypes.byref(mount), 0))
syscall("open_by_handle_at", directory, handle, 0)`,
    ],
    [
      "with git, from its index",
      (path: string) =>
        `subprocess.run(["git", "-c", "safe.directory=*", "cat-file", "-p", ":${path}"], capture_output=True).stdout`,
    ],
  ] as const)("%s", async ([, read]) => {
    for (const path of MASKED) {
      expect(await attacked.tries(read(path))).toMatch(
        /^(succeeded: b?''|refused: (PermissionError|OSError: \[Errno (16|18|30)\]))/,
      );
      expect(readFileSync(join(attacked.workspace, path), "utf8")).toBe(`KEY=${SECRET}\n`);
    }
  });

  test("by renaming a directory above it, which works on others", async () => {
    for (const name of ["nested", "nested/deep"]) {
      expect(await attacked.tries(`os.rename("${name}", "${name}-moved")`)).toMatch(/^refused: OSError: \[Errno 16\]/);
    }
    expect(await attacked.tries(`os.makedirs("other/deep")\nos.rename("other", "renamed")`)).toBe("succeeded: None");
  });

  test("at any place that the table of mounts names, where what is not masked is found", async () => {
    const search = `places = {line.split()[4] for line in open("/proc/self/mountinfo")} - {"/"}
def files(place):
    if os.path.isfile(place): yield place
    for directory, _, names in os.walk(place):
        yield from (os.path.join(directory, name) for name in names)
def text(path):
    try:
        if os.path.isfile(path) and not path.startswith(("/proc", "/sys", "/dev")): return open(path, "rb").read()
    except OSError: pass
    return b""
searched = sorted({path for place in places for path in files(place)})
sorted({os.path.basename(path) for path in searched if b"secret-of-the-" in text(path)})`;
    await attacked.client.text(`_ = open("not-masked", "w").write("secret-of-the-cell")`);
    expect(await attacked.tries(search)).toBe("succeeded: ['not-masked']");
    await attacked.client.text(`import os; os.unlink("not-masked")`);
  });

  test("which it does where the same workspace is mounted without masks", async () => {
    const mounts = [`${attacked.workspace}:/workspace`];
    expect(await withoutWalls(attacked.image, `open("/workspace/.env").read()`, { Binds: mounts })).toContain(SECRET);
  });
});

describe("protected paths: a cell can't", () => {
  test.for([
    ["write a hook", `open(".git/hooks/pre-commit", "w")`],
    ["set a monitor in git's configuration", `open(".git/config", "a")`],
    [
      "run git config",
      `subprocess.run(["git", "-c", "safe.directory=*", "config", "core.fsmonitor", "/tmp/x"], check=True, capture_output=True)`,
    ],
    ["move .git away and build another", `os.rename(".git", ".g2")`],
    ["remove .git", `os.rmdir(".git/hooks")`],
    ["exchange .git for another", `os.mkdir("g3")\nchecked(libc.renameat2(-100, b"g3", -100, b".git", 2))`],
    ["plant an agent's instructions", `open("CLAUDE.md", "a")`],
    ["plant an agent's servers", `open(".mcp.json", "w")`],
    ["replace an agent's servers", `open("m.json", "w").close()\nos.replace("m.json", ".mcp.json")`],
    ["plant an agent's settings", `open(".claude/settings.json", "w")`],
    ["plant an editor's tasks", `open(".vscode/tasks.json", "w")`],
    ["plant a workflow", `open(".github/workflows/evil.yml", "w")`],
    ["plant a shell's environment", `open(".envrc", "a")`],
    ["plant them by the other path", `open("/workspace/.vscode/tasks.json", "w")`],
  ] as const)("%s", async ([, code]) => {
    expect(await attacked.tries(code)).toMatch(
      /^refused: (PermissionError|CalledProcessError|OSError: \[Errno (16|18|30)\])/,
    );
  });

  test("make the owner's git status run a program, which it does where .git is unprotected", async () => {
    const evil = (marker: string) => `open("monitor.sh", "w").write("#!/bin/sh\\ntouch ${marker}\\n")
os.chmod("monitor.sh", 0o755)
open(".git/config", "a").write(f"[core]\\n\\tfsmonitor = {os.path.abspath('monitor.sh')}\\n")`;
    const status = (workspace: string) =>
      promisify(execFile)("git", ["-c", "safe.directory=*", "-C", workspace, "status", "--short"]);
    const marker = join(outside, "ran");
    expect(await attacked.tries(evil(marker))).toMatch(/^refused/);
    await status(attacked.workspace);
    expect(existsSync(marker)).toBe(false);

    await using unprotected = await SessionUnderAttack.open({
      args: ["--unprotect", ".git"],
      prepare: (workspace) => {
        execFileSync("git", ["init", "--quiet", workspace]);
      },
    });
    expect(await unprotected.tries(evil(marker))).toMatch(/^succeeded/);
    await status(unprotected.workspace);
    expect(existsSync(marker)).toBe(true);
    execFileSync("rm", [marker]);
  });
});

describe("an env file that a cell plants where there was none", () => {
  const register = (client: TestClient) =>
    client.call("register_mcp_server", {
      server_name: "planted",
      server_params: { ...upstream("memory"), env: { PLANTED: "${PLANTED_BY_CELL}" } },
    });

  let session: SessionUnderAttack;
  beforeAll(async () => {
    session = await SessionUnderAttack.open({ env: { HOST_SECRET: "the-secret-of-the-host" } });
  });
  afterAll(() => session[Symbol.asyncDispose]());

  test.for([
    ["as a file", `open(".env", "w").write("PLANTED_BY_CELL=x")`],
    ["with a variable of the host in it", `open(".env", "w").write("PLANTED_BY_CELL=\${HOST_SECRET}")`],
    ["by renaming another onto it", `open("e", "w").write("PLANTED_BY_CELL=x")\nos.replace("e", ".env")`],
    ["as a link", `os.unlink(".env")\nos.symlink("/proc/self/environ", ".env")`],
    ["as a FIFO", `os.unlink(".env")\nos.mkfifo(".env")`],
    ["of 1 GB", `os.truncate(".env", 1 << 30)`],
  ] as const)("%s is refused, and no registration uses it", async ([, code]) => {
    expect(await session.tries(code)).toMatch(/^refused: (PermissionError|OSError: \[Errno (16|30)\])/);
    expect(errorCodeOf(await register(session.client))).toBe("missing-variable");
  });
});

describe("an env file that is no plain small file when the server starts", () => {
  test.for([
    ["a FIFO, which blocks no one", (path: string) => execFileSync("mkfifo", [path])],
    ["a link, which is not followed", (path: string) => symlinkSync("/etc/passwd", path)],
    [
      "of 1 GB, which is not read",
      (path: string) => {
        writeFileSync(path, "");
        truncateSync(path, 1 << 30);
      },
    ],
    ["a directory", (path: string) => mkdirSync(path)],
  ] as const)("is refused: %s", async ([, plant]) => {
    using directory = new TestDirectory();
    const workspace = directory.make("workspace");
    const path = join(workspace, ".env");
    plant(path);
    const server = promisify(execFile)(inject("ipyboxBin"), ["--workspace", workspace], {
      env: baseEnvironment(directory),
      timeout: 20_000,
    });
    await expect(server).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining(path) as string });
  });
});
