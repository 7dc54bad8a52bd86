import { mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { currentProcess, formatIdentity } from "../../../src/common/process-identity.ts";
import { plantEmptyEnvFile } from "../../../src/workspace/env-placeholder.ts";
import { matchesGlob } from "../../../src/workspace/glob.ts";
import { ShieldRules } from "../../../src/workspace/shield-rules.ts";
import { findShieldedPaths } from "../../../src/workspace/shielded-paths.ts";
import { WorkspaceFiles } from "../../../src/workspace/workspace-files.ts";

let root: string;
let workspace: string;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-shielded-")));
  workspace = join(root, "workspace");
  await mkdir(workspace);
});
afterEach(() => rm(root, { recursive: true }));

const put = async (...paths: string[]) => {
  for (const path of paths) {
    await mkdir(dirname(join(workspace, path)), { recursive: true });
    if (path.endsWith("/")) await mkdir(join(workspace, path), { recursive: true });
    else await writeFile(join(workspace, path), "x");
  }
};
const find = async (options: { mask?: string[]; protect?: string[]; unprotect?: string[] } = {}) => {
  const found = await findShieldedPaths(
    new ShieldRules(workspace, { mask: [], protect: [], unprotect: [], ...options }),
  );
  const inside = (paths: readonly string[]) => paths.map((path) => path.slice(workspace.length + 1));
  return { masked: inside(found.masked), protected: inside(found.protected), complete: found.complete };
};

describe("masked files", () => {
  it("are env files down to three levels, but not examples", async () => {
    await put(
      ".env",
      ".env.local",
      ".env.example",
      ".env.sample",
      ".env.template",
      "a/.env",
      "a/b/c/.env",
      "a/b/c/d/.env",
    );
    await put("environment");
    expect((await find()).masked).toEqual([".env", ".env.local", "a/.env", "a/b/c/.env"]);
  });

  it("are env files in the directories of tools, too, with globs down to three levels", async () => {
    const files = [".git/.env", "node_modules/x/.env", "node_modules/x/lib/.env", "venv/.env"];
    await put(
      ...files,
      "node_modules/x/lib/deep/.env",
      "venv/lib/python3/site-packages/x/cacert.pem",
      "a/b/c/d/e/f.pem",
    );
    expect((await find()).masked).toEqual(files);
    expect((await find({ mask: ["*.pem"] })).masked).toEqual(["a/b/c/d/e/f.pem", ...files].sort());
  });

  it("are what --mask names, directories with all that is in them", async () => {
    await put("keys/a.pem", "deep/er/still/more/levels/b.pem", "secrets/x", "secrets/y/z", "other/secrets.txt");
    expect((await find({ mask: ["*.pem", "secrets/"] })).masked).toEqual([
      "deep/er/still/more/levels/b.pem",
      "keys/a.pem",
      "secrets/x",
      "secrets/y/z",
    ]);
    expect((await find({ mask: [join(workspace, "secrets/y")] })).masked).toEqual(["secrets/y/z"]);
  });

  it("are the targets of links in the workspace, and directories named .env are none", async () => {
    await put("config/production", ".env.d/x", "sub/.env/bin/python");
    await symlink("config/production", join(workspace, ".env"));
    await symlink("/etc/passwd", join(workspace, ".env.outside"));
    expect((await find()).masked).toEqual(["config/production"]);
  });

  it("are lifted by --unprotect", async () => {
    await put(".env", "a/.env");
    expect((await find({ unprotect: ["a/.env"] })).masked).toEqual([".env"]);
  });
});

describe("protected paths", () => {
  it("are what programs on the host act on, in the root, and repositories down to three levels", async () => {
    await put(
      ".git/config",
      ".vscode/",
      ".claude/x",
      ".mcp.json",
      "CLAUDE.md",
      "AGENTS.md",
      ".envrc",
      ".github/x",
      ".husky/x",
      ".idea/x",
      ".cursor/x",
      ".devcontainer/x",
    );
    await put(
      "a/.git/config",
      "a/b/c/.git",
      "a/b/c/d/.git/config",
      "a/.vscode/x",
      "a/CLAUDE.md",
      ".git/modules/x/.git/config",
    );
    expect((await find()).protected).toEqual(
      [
        ".claude",
        ".cursor",
        ".devcontainer",
        ".envrc",
        ".git",
        ".git/modules/x/.git",
        ".github",
        ".husky",
        ".idea",
        ".mcp.json",
        ".vscode",
        "AGENTS.md",
        "CLAUDE.md",
        "a/.git",
        "a/b/c/.git",
      ].sort(),
    );
  });

  it("are --protect paths in the workspace, less --unprotect", async () => {
    await put(".git/config", "scripts/run.sh");
    await symlink("/etc", join(workspace, "etc"));
    const found = await find({ protect: ["scripts", "etc", "missing", "../outside"], unprotect: [".git"] });
    expect(found.protected).toEqual(["scripts"]);
  });

  it("are found without following links", async () => {
    await mkdir(join(root, "elsewhere/.git"), { recursive: true });
    await symlink(join(root, "elsewhere"), join(workspace, "link"));
    await symlink(join(root, "elsewhere/.git"), join(workspace, ".git"));
    expect((await find()).protected).toEqual([]);
  });
});

describe("a glob", () => {
  it.each([
    ["*.pem", "a/b/c.pem", true],
    ["*.pem", "c.pem.txt", false],
    ["a/*.pem", "a/c.pem", true],
    ["a/*.pem", "a/b/c.pem", false],
    ["a/**/c", "a/c", true],
    ["a/**/c", "a/x/y/c", true],
    ["a/**", "a/x/y", true],
    ["?.txt", "a.txt", true],
    ["./secret/", "secret", true],
    ["a(b)[c]", "a(b)[c]", true],
    ["a.c", "abc", false],
  ])("%s on %s: %s", (glob, path, matches) => {
    expect(matchesGlob(glob, path)).toBe(matches);
  });

  it.each([
    ["*.pem", "a\\b\\c.pem", true],
    ["a/*.pem", "a\\c.pem", true],
    ["a\\*.pem", "a\\c.pem", true],
    ["a\\*.pem", "a\\b\\c.pem", false],
    [".\\secret\\", "secret", true],
  ])("%s on %s of Windows: %s", (glob, path, matches) => {
    expect(matchesGlob(glob, path, "\\")).toBe(matches);
  });
});

describe("the placeholder for .env", () => {
  let files: WorkspaceFiles;
  beforeEach(async () => (files = await WorkspaceFiles.open(workspace, { owner: undefined })));
  afterEach(() => files[Symbol.asyncDispose]());
  const plant = (sessionId: string) => plantEmptyEnvFile(files, { stateDir: join(root, "state"), sessionId });

  it("is made where there is none, private and empty, and removed at the end", async () => {
    const placeholder = await plant("a");
    const info = await stat(join(workspace, ".env"));
    expect(info.mode & 0o777).toBe(0o600);
    expect(info.size).toBe(0);
    await placeholder[Symbol.asyncDispose]();
    await placeholder[Symbol.asyncDispose]();
    expect(await readdir(workspace)).toEqual([]);
  });

  it("stays until the last session of the workspace ends", async () => {
    const first = await plant("a");
    const second = await plant("b");
    await first[Symbol.asyncDispose]();
    expect(await readdir(workspace)).toEqual([".env"]);
    await second[Symbol.asyncDispose]();
    expect(await readdir(workspace)).toEqual([]);
  });

  it("is not kept by the record of a dead session", async () => {
    await mkdir(join(root, "state/sessions"), { recursive: true });
    const dead = formatIdentity({ ...currentProcess(), startTime: "1" });
    await writeFile(join(root, "state/sessions/dead"), dead);
    const placeholder = await plant("a");
    await placeholder[Symbol.asyncDispose]();
    expect(await readdir(workspace)).toEqual([]);
    expect(await readdir(join(root, "state/sessions"))).toEqual([]);
  });

  it("can't be made in a workspace that is gone, which has a code of its own", async () => {
    await rm(workspace, { recursive: true });
    await expect(plant("a")).rejects.toMatchObject({ code: "workspace-gone" });
  });

  it("stays when the user filled it, and the user's own empty file stays, too", async () => {
    const filled = await plant("a");
    await writeFile(join(workspace, ".env"), "KEY=1");
    await filled[Symbol.asyncDispose]();
    expect(await readFile(join(workspace, ".env"), "utf8")).toBe("KEY=1");
    await writeFile(join(workspace, ".env"), "");
    const own = await plant("b");
    await own[Symbol.asyncDispose]();
    expect(await readdir(workspace)).toEqual([".env"]);
  });
});
