import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { upstreamEnvironment } from "../../../src/broker/environment.ts";
import { cleanPath, passesThrough } from "../../../src/broker/host-paths.ts";
import { checkProgram } from "../../../src/broker/programs.ts";

let root: string;
let workspace: string;
const at = (path: string) => path.replaceAll("WS", workspace).replaceAll("ROOT", root);

beforeAll(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "host-paths-")));
  workspace = join(root, "work");
  for (const directory of ["work/bin", "work/repo", "outside", "work-not"]) {
    mkdirSync(join(root, directory), { recursive: true });
  }
  for (const file of [
    "work/bin/tool",
    "outside/tool",
    "outside/server.js",
    "outside/uvx",
    "outside/node",
    "outside/env",
  ]) {
    writeFileSync(join(root, file), "#!/bin/sh\n", { mode: 0o755 });
  }
  for (const file of ["work/evil.js", "work/evil", "work/data.db", "work/evil.py"]) writeFileSync(join(root, file), "");
  symlinkSync(join(root, "work/bin"), join(root, "outside/link-in"));
  symlinkSync("../outside/server.js", join(root, "work/link-out"));
  symlinkSync(join(root, "work/link-out"), join(root, "outside/through"));
  symlinkSync("loop", join(root, "outside/loop"));
  symlinkSync(join(root, "work/later"), join(root, "outside/dangling"));
});

afterAll(() => rmSync(root, { recursive: true }));

describe("paths that cells decide about", () => {
  test.each([
    ["WS", true],
    ["WS/bin", true],
    ["WS/not/there/yet", true],
    ["ROOT/outside/link-in", true],
    ["ROOT/outside/link-in/tool", true],
    ["ROOT/outside/through", true],
    ["ROOT/outside/dangling", true],
    ["ROOT/outside/loop", true],
    ["WS/../outside", true],
    ["ROOT/outside/../work/x", true],
    ["ROOT/outside/tool", false],
    ["ROOT/work-not", false],
    ["ROOT/nowhere", false],
    ["/", false],
  ])("%s: %s", (path, expected) => {
    expect(passesThrough(at(path), [workspace])).toBe(expected);
  });

  test.each([
    ["/usr/bin:/bin", "/usr/bin:/bin"],
    ["node_modules/.bin:.:/usr/bin::", "/usr/bin"],
    ["WS/bin:/usr/bin:ROOT/outside/link-in", "/usr/bin"],
    ["ROOT/outside:ROOT/work-not", "ROOT/outside:ROOT/work-not"],
  ])("the PATH %s becomes %s", (path, expected) => {
    expect(cleanPath(at(path), [workspace])).toBe(at(expected));
  });
});

describe("the environment of an upstream", () => {
  test("is six variables of the host's, what was given, and git without hooks", () => {
    const host = { HOME: "/home/me", PATH: at("WS/bin:/usr/bin"), USER: "me", AWS_SECRET: "no", NODE_OPTIONS: "no" };
    expect(upstreamEnvironment(host, { API_KEY: "k" }, [workspace], "mark")).toEqual({
      HOME: "/home/me",
      PATH: "/usr/bin",
      USER: "me",
      API_KEY: "k",
      GIT_CONFIG_COUNT: "2",
      GIT_CONFIG_KEY_0: "core.hooksPath",
      GIT_CONFIG_VALUE_0: "/dev/null/mark",
      GIT_CONFIG_KEY_1: "core.fsmonitor",
      GIT_CONFIG_VALUE_1: "false",
    });
  });

  test("keeps git settings that were given, before ours", () => {
    const given = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "core.fsmonitor", GIT_CONFIG_VALUE_0: "evil" };
    expect(upstreamEnvironment({}, given, [], "mark")).toMatchObject({
      GIT_CONFIG_COUNT: "3",
      GIT_CONFIG_VALUE_0: "evil",
      GIT_CONFIG_KEY_2: "core.fsmonitor",
      GIT_CONFIG_VALUE_2: "false",
    });
  });
});

describe("programs", () => {
  const check = (line: string, options: { env?: Record<string, string>; cwd?: string; allow?: boolean } = {}) => {
    const [command = "", ...args] = at(line).split(" ");
    const env = { PATH: `${root}/outside:/usr/bin:/bin`, ...options.env };
    const program = { command, args, cwd: at(options.cwd ?? "ROOT/outside"), env };
    return checkProgram(program, [workspace], { allowWorkspace: options.allow ?? false });
  };

  test.each([
    "WS/bin/tool",
    "WS/bin/not-there-yet",
    "ROOT/outside/link-in/tool",
    "node WS/evil.js",
    "node --inspect WS/evil",
    "node --require WS/evil.js ROOT/outside/server.js",
    "node --import=file://WS/evil.js ROOT/outside/server.js",
    "node -e require('WS/evil.js')",
    "node ../work/evil.js",
    "tool WS/evil.py",
    "tool --plugin=WS/evil.js",
    "sh -c WS/evil",
    "sh WS/evil",
    "env A=1 node WS/evil",
    "uvx --from WS/repo tool",
    "uvx WS/repo",
  ])("%s is refused", (line) => {
    expect(() => check(line)).toThrow(expect.objectContaining({ code: "workspace-program" }));
  });

  test.each([
    "tool WS",
    "tool --db-path WS/data.db",
    "node ROOT/outside/server.js WS",
    "node --inspect ROOT/outside/server.js WS/repo",
    "uvx mcp-server-git --repository WS/repo",
    "uvx mcp-server-sqlite --db-path WS/data.db",
    "env A=1 node ROOT/outside/server.js WS",
  ])("%s is admitted, with a warning", (line) => {
    expect(check(line).warnings).toHaveLength(1);
  });

  test("without the workspace in their arguments are admitted silently", () => {
    expect(check("tool --verbose")).toEqual({ executable: join(root, "outside/tool"), warnings: [] });
  });

  test.each([
    ["NODE_OPTIONS", "--require WS/evil.js"],
    ["PYTHONPATH", "/opt/x:WS/lib"],
    ["LD_PRELOAD", "WS/evil.so"],
  ])("that %s makes load code of the workspace are refused", (name, value) => {
    expect(() => check("tool", { env: { [name]: at(value) } })).toThrow(name);
  });

  test("don't run in the workspace", () => {
    expect(() => check("tool", { cwd: "WS/repo" })).toThrow("working directory");
  });

  test("may do all of it where that is allowed", () => {
    expect(check("WS/bin/tool WS/evil.js", { cwd: "WS", allow: true }).executable).toBe(at("WS/bin/tool"));
  });

  test.each(["no-such-command", "/no/such/command", "./no"])("%s is not found", (command) => {
    expect(() => check(command)).toThrow(`Command not found: ${command}`);
  });
});
