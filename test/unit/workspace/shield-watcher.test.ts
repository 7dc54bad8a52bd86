import { appendFile, mkdir, mkdtemp, realpath, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type LogFields, silentLogger } from "../../../src/common/logger.ts";
import { within } from "../../../src/common/time.ts";
import { type ShieldOptions, ShieldRules } from "../../../src/workspace/shield-rules.ts";
import { ShieldWatcher } from "../../../src/workspace/shield-watcher.ts";

let root: string;
let workspace: string;
const open: ShieldWatcher[] = [];
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "ipybox-watch-")));
  workspace = join(root, "workspace");
  await mkdir(workspace);
});
afterEach(async () => {
  for (const watcher of open.splice(0)) watcher[Symbol.dispose]();
  await rm(root, { recursive: true });
});

const at = (path: string) => join(workspace, path);
const put = async (path: string, text = "x") => {
  await mkdir(dirname(at(path)), { recursive: true });
  await writeFile(at(path), text);
};
const watch = async (options: Partial<ShieldOptions> = {}) => {
  const rules = new ShieldRules(workspace, { mask: [], protect: [], unprotect: [], ...options });
  const watcher = await ShieldWatcher.open(rules, silentLogger);
  open.push(watcher);
  return watcher;
};
/** As editors save: a new file beside it, renamed onto it. */
const replace = async (path: string) => {
  await writeFile(at(`${path}~`), "replaced");
  await rename(at(`${path}~`), at(path));
};

describe("a mask is breached when", () => {
  const env = () => put(".env");
  it.each<[string, () => Promise<unknown>, () => Promise<unknown>, string]>([
    ["its file is replaced by rename", env, () => replace(".env"), ".env was replaced"],
    ["its file is removed", env, () => unlink(at(".env")), ".env was replaced"],
    [
      "its file becomes a directory",
      env,
      async () => {
        await unlink(at(".env"));
        await mkdir(at(".env"));
      },
      ".env was replaced",
    ],
    [
      "its file becomes a link",
      env,
      async () => {
        await symlink("/etc/passwd", at("link"));
        await rename(at("link"), at(".env"));
      },
      ".env was replaced",
    ],
    ["its directory is moved away", () => put("a/b/.env"), () => rename(at("a"), at("z")), "a/b/.env was replaced"],
    ["a new name matches in the root", env, () => put(".env.local"), ".env.local appeared"],
    ["a new name matches deep down", () => put("a/b/c/x"), () => put("a/b/c/.env"), "a/b/c/.env appeared"],
    [
      "a new name matches in a directory of tools",
      () => put("node_modules/x/y/z"),
      () => put("node_modules/x/y/.env"),
      "node_modules/x/y/.env appeared",
    ],
    ["a new directory of tools brings one", env, () => put(".venv/.env"), ".venv/.env appeared"],
    ["a new directory brings one", env, () => put("new/er/.env"), "new/er/.env appeared"],
    [
      "a directory that is moved in brings one",
      async () => {
        await mkdir(join(root, "outside/deep"), { recursive: true });
        await writeFile(join(root, "outside/deep/.env"), "x");
      },
      () => rename(join(root, "outside"), at("inside")),
      "inside/deep/.env appeared",
    ],
    [
      "a link leads to a file that is not masked",
      () => put("config/production"),
      () => symlink("config/production", at(".env")),
      "config/production appeared",
    ],
  ])("%s", async (_what, before, change, expected) => {
    await before();
    const watcher = await watch();
    await change();
    const breach = await within(2000, watcher.breached);
    expect(breach && `${breach.path} ${breach.what}`).toBe(expected);
    expect(watcher.breach).toEqual(breach);
  });

  it("a --mask glob matches something new, deep down", async () => {
    await put("a/b/c/d/e/x");
    const watcher = await watch({ mask: ["*.pem"] });
    await put("a/b/c/d/e/key.pem");
    expect(await watcher.breached).toEqual({ path: "a/b/c/d/e/key.pem", what: "appeared" });
  });

  describe("no directory can be watched any more, as the log says, and", () => {
    const watchTwo = async (logger = silentLogger) => {
      const rules = new ShieldRules(workspace, { mask: [], protect: [], unprotect: [] });
      const watcher = await ShieldWatcher.open(rules, logger, { maxDirectories: 2 });
      open.push(watcher);
      return watcher;
    };

    it("something new matches between two cells: when the next one begins", async () => {
      await put("a/b/c/x");
      const warnings: unknown[] = [];
      const watcher = await watchTwo({
        ...silentLogger,
        warn: (_message: string, fields?: LogFields) => warnings.push(fields),
      });
      await put("a/b/c/.env");
      await watcher.startCell();
      expect(watcher.breach).toEqual({ path: "a/b/c/.env", what: "appeared" });
      const remedy = expect.stringContaining("fs.inotify.max_user_watches") as string;
      expect(warnings).toEqual([{ reason: "they are more than 2", remedy }]);
    });

    it.each<[string, () => Promise<unknown>, string]>([
      ["something new matches while a cell runs", () => put("a/b/c/.env.local"), "a/b/c/.env.local appeared"],
      ["a masked file is replaced while a cell runs", () => replace("a/b/.env"), "a/b/.env was replaced"],
      ["a directory comes up while a cell runs", () => put("a/b/new/.env"), "a/b/new/.env appeared"],
      [
        "a directory with a match is moved there while a cell runs",
        async () => {
          await mkdir(join(root, "new"));
          await writeFile(join(root, "new/.env"), "x");
          await rename(join(root, "new"), at("a/b/c"));
        },
        "a/b/c/.env appeared",
      ],
    ])("%s", async (_what, change, breach) => {
      await put("a/b/.env");
      if (!breach.startsWith("a/b/c/.env appeared")) await put("a/b/c/x");
      const watcher = await watchTwo();
      await watcher.startCell();
      await change();
      const { path, what } = await watcher.breached;
      expect(`${path} ${what}`).toBe(breach);
    });

    it("a repository comes up while a cell runs, which is told", async () => {
      await put("a/b/x");
      const watcher = await watchTwo();
      await watcher.startCell();
      await put("a/b/.git/hooks/pre-commit");
      expect(await watcher.changedInCell()).toEqual(["a/b/.git"]);
      const cell = async (change?: () => Promise<unknown>) => {
        await watcher.startCell();
        await change?.();
        return await watcher.changedInCell();
      };
      await expect.poll(() => cell()).toEqual([]);
      expect(await cell(() => put("a/b/beside-it"))).toEqual([]);
      expect(await cell(() => put("a/b/.git/hooks/post-checkout"))).toEqual(["a/b/.git"]);
    });
  });

  it("the directory of the masked file is flooded with events", async () => {
    await put(".env");
    const watcher = await watch();
    const flood = new AbortController();
    const flooding = (async () => {
      while (!flood.signal.aborted) await Promise.all([1, 2, 3, 4].map((n) => writeFile(at(`flood-${n}`), "x")));
    })();
    await replace(".env");
    await watcher.breached; // while the flood goes on
    flood.abort();
    await flooding;
  });
});

describe("a mask holds when", () => {
  it.each<[string, () => Promise<unknown>]>([
    ["its file is written in place", () => appendFile(at(".env"), "more")],
    ["an example appears", () => put(".env.example")],
    ["a name too deep appears", () => put("a/b/c/d/.env")],
    ["a name too deep in a directory of tools appears", () => put("node_modules/x/y/z/.env")],
    ["a link that leads out of the workspace appears", () => symlink("/etc/passwd", at(".env.local"))],
    ["a directory of that name appears", () => mkdir(at("sub/.env.d"), { recursive: true })],
    ["what --unprotect lifts appears", () => put("free/.env")],
  ])("%s", async (_what, change) => {
    await put(".env");
    const watcher = await watch({ unprotect: ["free/.env"] });
    await change();
    await watcher.startCell();
    expect(watcher.breach).toBeUndefined();
  });
});

describe("changes of protected paths during a cell", () => {
  const during = async (watcher: ShieldWatcher, change: () => Promise<unknown>) => {
    await watcher.startCell();
    await change();
    return await watcher.changedInCell();
  };

  it("are those that appear, and further changes of them", async () => {
    const watcher = await watch();
    expect(await during(watcher, () => put(".mcp.json"))).toEqual([".mcp.json"]);
    expect(await during(watcher, () => put("harmless.txt"))).toEqual([]);
    expect(await during(watcher, () => appendFile(at(".mcp.json"), "x"))).toEqual([".mcp.json"]);
    expect(await during(watcher, () => put(".vscode/tasks.json"))).toEqual([".vscode"]);
    expect(await during(watcher, () => appendFile(at(".vscode/tasks.json"), "x"))).toEqual([".vscode"]);
  });

  it("are repositories that are made, at any depth down to three, and their hooks", async () => {
    const watcher = await watch();
    expect(await during(watcher, () => put("a/b/.git/hooks/pre-commit"))).toEqual(["a/b/.git"]);
    expect(await during(watcher, () => appendFile(at("a/b/.git/hooks/pre-commit"), "x"))).toEqual(["a/b/.git"]);
    expect(await during(watcher, () => put("a/b/.git/config"))).toEqual(["a/b/.git"]);
    expect(await during(watcher, () => put("a/b/c/d/.git/config"))).toEqual([]);
  });

  it("are those whose file was replaced, not those that are covered", async () => {
    await put("CLAUDE.md");
    await put(".git/config");
    const watcher = await watch();
    expect(await during(watcher, () => appendFile(at("CLAUDE.md"), "in place, by the user"))).toEqual([]);
    expect(await during(watcher, () => put(".git/index"))).toEqual([]);
    expect(await during(watcher, () => replace("CLAUDE.md"))).toEqual(["CLAUDE.md"]);
    expect(await during(watcher, () => appendFile(at("CLAUDE.md"), "x"))).toEqual(["CLAUDE.md"]);
  });

  it("are --protect paths that come up late, and not what --unprotect lifts", async () => {
    const watcher = await watch({ protect: ["scripts/run.sh"], unprotect: ["AGENTS.md"] });
    expect(await during(watcher, () => put("scripts/run.sh"))).toEqual(["scripts/run.sh"]);
    expect(await during(watcher, () => put("AGENTS.md"))).toEqual([]);
  });

  it("are named without line breaks", async () => {
    const watcher = await watch();
    expect(await during(watcher, () => put("evil\n[x]/.git/config"))).toEqual(["evil?[x]/.git"]);
  });
});
