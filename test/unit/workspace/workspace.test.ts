import { mkdir, mkdtemp, readdir, realpath, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isSystemDirectory } from "../../../src/workspace/dangerous-directories.ts";
import { judgeDiskSpace, readDiskSpace } from "../../../src/workspace/disk-space.ts";
import { readEnvFile } from "../../../src/workspace/env-file.ts";
import { checkMount, parseMount, refuseReplaceableSources } from "../../../src/workspace/mounts.ts";
import { decideOwner } from "../../../src/workspace/owner.ts";
import { openWorkspace, workspaceKey } from "../../../src/workspace/workspace.ts";

let root: string;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-workspace-")));
});
afterEach(() => rm(root, { recursive: true }));

const places = () => ({
  home: join(root, "home"),
  stateDir: join(root, "home/state/ipybox"),
  runDirs: [join(root, "run/ipybox"), join(root, "temporary/ipybox-")],
  engineSocket: join(root, "engine/docker.sock"),
});
const open = (path: string) => openWorkspace(path, { cwd: root, ...places() });

describe("a workspace", () => {
  it("is resolved relative to the caller's directory and made when only it is missing", async () => {
    const workspace = await open("project");
    expect(workspace.path).toBe(join(root, "project"));
    expect(workspace.key).toBe(workspaceKey(workspace.path));
    expect(workspace.key).toMatch(/^[0-9a-f]{16}$/);
    expect((await stat(workspace.path)).isDirectory()).toBe(true);
  });

  it("is the same by a link", async () => {
    await mkdir(join(root, "real"));
    await symlink(join(root, "real"), join(root, "link"));
    expect(await open("link")).toEqual(await open("real"));
  });

  it("whose parent does not exist is refused, and nothing is made", async () => {
    await expect(open("a/b")).rejects.toMatchObject({ code: "invalid-workspace" });
    await expect(stat(join(root, "a"))).rejects.toThrow();
  });

  it("that is a file or a dangling link is refused", async () => {
    await writeFile(join(root, "file"), "");
    await symlink(join(root, "nowhere"), join(root, "dangling"));
    await expect(open("file")).rejects.toMatchObject({ code: "invalid-workspace" });
    await expect(open("dangling")).rejects.toMatchObject({ code: "invalid-workspace" });
  });

  it.each(["/", "/etc", "/usr", "/var", "/tmp", "/root", "/proc", "/lib"])("is never %s", async (path) => {
    await expect(open(path)).rejects.toMatchObject({ code: "invalid-workspace" });
  });

  it.each(["C:\\Users\\ann", "c:/Users/ann", "C:Usersann", "\\\\wsl$\\Debian\\home"])(
    "is never made for a path of Windows, %s",
    async (path) => {
      await expect(open(path)).rejects.toMatchObject({
        code: "invalid-workspace",
        hint: expect.stringContaining("wslpath") as string,
      });
      expect(await readdir(root)).toEqual([]);
    },
  );

  it.each([
    ["C:\\Windows", true],
    ["d:\\windows\\System32", true],
    ["C:\\Program Files (x86)\\x", true],
    ["C:\\ProgramData", true],
    ["C:\\Users", true],
    ["C:\\Users\\ann\\project", false],
    ["C:\\WindowsApps", false],
    ["/private/etc", true],
    ["/Users/ann/project", false],
  ])("%s is one of the system's on Windows or macOS: %s", (path, expected) => {
    expect(isSystemDirectory(path)).toBe(expected);
  });

  it("is never the home directory, nor what contains or is state, sockets or the engine's socket", async () => {
    for (const directory of ["home/state/ipybox", "run/ipybox", "engine", "temporary"]) {
      await mkdir(join(root, directory), { recursive: true });
    }
    await writeFile(join(root, "engine/docker.sock"), "");
    await symlink(join(root, "home"), join(root, "home-link"));
    for (const path of ["home", "home-link", "home/state", "home/state/ipybox", "run", "temporary", "engine", "."]) {
      await expect(open(path), path).rejects.toMatchObject({ code: "invalid-workspace" });
    }
    await expect(open("home/state/ipybox/new")).rejects.toMatchObject({ code: "invalid-workspace" });
    await expect(stat(join(root, "home/state/ipybox/new"))).rejects.toThrow();
    await open("home/project");
    await open("temporary/project");
  });
});

describe("the source of a mount", () => {
  const mount = (source: string, readOnly = true) => ({ source, target: source, readOnly });

  it.each([
    ["in the workspace", [mount("/ws/data")]],
    ["in a mount that cells may write", [mount("/out", false), mount("/out/part")]],
  ])("%s could be replaced by a cell, and is refused", (_what, mounts) => {
    expect(() => refuseReplaceableSources(mounts, "/ws")).toThrow("where cells write");
  });

  it.each([
    ["beside the workspace", [mount("/ws-data"), mount("/out", false)]],
    ["the workspace itself, or around it", [mount("/ws", false), mount("/")]],
    ["in a mount that is read-only", [mount("/data"), mount("/data/part")]],
  ])("%s can't be", (_what, mounts) => {
    expect(() => refuseReplaceableSources(mounts, "/ws")).not.toThrow();
  });
});

describe("a mount", () => {
  it.each([
    ["data", { source: "/ws/data", target: "/ws/data", readOnly: true }],
    ["/data:/mnt", { source: "/data", target: "/mnt", readOnly: true }],
    ["/data:rw", { source: "/data", target: "/data", readOnly: false }],
    ["../data:/mnt/x/:rw", { source: "/data", target: "/mnt/x", readOnly: false }],
    ["/data:/mnt:ro", { source: "/data", target: "/mnt", readOnly: true }],
  ])("%s is read", (text, mount) => {
    expect(parseMount(text, "/ws")).toEqual(mount);
  });

  it.each(["", ":", "/a:b", "/a:/b:/c", "/a:/b:rx", "/a:/usr/lib", "/a:/opt/ipybox/x", "/a:/", "/a:/workspace"])(
    "%j is refused",
    (text) => {
      expect(() => parseMount(text, "/ws")).toThrow("--mount");
    },
  );

  it.each([
    ["C:\\data:/data", { source: "C:\\data", target: "/data", readOnly: true }],
    ["c:/data/x:/data:rw", { source: "c:\\data\\x", target: "/data", readOnly: false }],
    ["\\\\?\\C:\\data:/data", { source: "\\\\?\\C:\\data", target: "/data", readOnly: true }],
    [
      "\\\\wsl.localhost\\Debian\\srv:/data:rw",
      { source: "\\\\wsl.localhost\\Debian\\srv", target: "/data", readOnly: false },
    ],
    ["..\\data:/data", { source: "C:\\Users\\data", target: "/data", readOnly: true }],
  ])("%j on Windows", (text, mount) => {
    expect(parseMount(text, "C:\\Users\\ann", "win32")).toEqual(mount);
  });

  it.each(["C:\\data", "C:\\data:rw", "C:\\data:D:\\x", "C:/"])(
    "%j is refused on Windows, where DST is needed",
    (text) => {
      expect(() => parseMount(text, "C:\\Users\\ann", "win32")).toThrow("--mount");
    },
  );

  it("is checked after resolving links", async () => {
    await mkdir(join(root, "data"));
    await symlink("/etc", join(root, "etc"));
    const checked = await checkMount(parseMount("data:/data", root), places());
    expect(checked.source).toBe(join(root, "data"));
    await expect(checkMount(parseMount("etc:/data", root), places())).rejects.toMatchObject({
      code: "invalid-workspace",
    });
    await expect(checkMount(parseMount("none:/data", root), places())).rejects.toMatchObject({
      code: "invalid-workspace",
    });
  });
});

describe("the owner of what cells make", () => {
  it.each([
    [1000, 1000, 1000, 1000, 1000, 1000, false],
    [1000, 1000, 0, 0, 1000, 1000, false],
    [501, 20, 501, 20, 501, 20, false],
    [undefined, undefined, 0, 0, 1000, 1000, false],
    [0, 0, 1000, 100, 1000, 100, false],
    [0, 0, 0, 0, 0, 0, true],
  ])(
    "for caller %s:%s in a workspace of %i:%i is %i:%i",
    (callerUid, callerGid, workspaceUid, workspaceGid, uid, gid, warns) => {
      const owner = decideOwner({ callerUid, callerGid, workspaceUid, workspaceGid });
      expect(owner).toMatchObject({ uid, gid });
      expect(owner.warning !== undefined).toBe(warns);
    },
  );
});

describe("an env file", () => {
  const read = (path: string) => readEnvFile(path, join(root, "workspace"));
  beforeEach(() => mkdir(join(root, "workspace/config"), { recursive: true }));

  it.each(["outside.env", "workspace/.env", "workspace/config/x.env"])("is read as it is, at %s", async (name) => {
    await writeFile(join(root, name), "A=1\n");
    expect(await read(join(root, name))).toBe("A=1\n");
  });

  it("may be absent", async () => {
    expect(await read(join(root, "none"))).toBeUndefined();
    expect(await read(join(root, "workspace/none/.env"))).toBeUndefined();
  });

  it("that PowerShell wrote as UTF-16 is refused, not read as one without variables", async () => {
    await writeFile(join(root, "outside.env"), Buffer.from("\uFEFFA=1\r\n", "utf16le"));
    await expect(read(join(root, "outside.env"))).rejects.toMatchObject({
      code: "invalid-configuration",
      message: expect.stringContaining("no UTF-8 text") as string,
    });
  });

  it("that is a link, a directory, a device or too large is refused at once", async () => {
    await writeFile(join(root, "real"), "A=1\n");
    await symlink(join(root, "real"), join(root, "link"));
    await symlink("config", join(root, "workspace/link"));
    await writeFile(join(root, "workspace/config/.env"), "A=1\n");
    await writeFile(join(root, "large"), Buffer.alloc(1024 * 1024 + 1));
    for (const path of [
      join(root, "link"),
      join(root, "workspace/link/.env"),
      root,
      "/dev/zero",
      join(root, "large"),
    ]) {
      await expect(read(path), path).rejects.toMatchObject({ code: "invalid-configuration" });
    }
  });
});

describe("the disk floor", () => {
  it.each([
    [5e9, 100e9, false],
    [0.9e9, 10e9, true],
    [1.5e9, 100e9, true],
  ])("%d free of %d is low: %s", (free, total, low) => {
    expect(judgeDiskSpace(free, total).low).toBe(low);
  });

  it("is read from the file system", async () => {
    expect((await readDiskSpace(root)).totalBytes).toBeGreaterThan(0);
  });
});
