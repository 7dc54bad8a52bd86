import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { findEnvExposure } from "../../../src/workspace/env-exposure.ts";

let workspace: string;
beforeEach(() => {
  workspace = realpathSync(mkdtempSync(join(tmpdir(), "ipybox-exposure-")));
});
afterEach(() => rmSync(workspace, { recursive: true }));

const write = (name: string, content: string) => {
  mkdirSync(join(workspace, name, ".."), { recursive: true });
  writeFileSync(join(workspace, name), content);
};
const git = (...args: string[]) => execFileSync("git", ["-C", workspace, ...args]);
const find = () => findEnvExposure(workspace, process.env["PATH"]);

it("names env files with content, and those of them that a repository tracks, nested ones too", async () => {
  git("init", "--quiet");
  git("init", "--quiet", "nested");
  for (const name of [".env", "nested/.env.local", "later/.env"]) write(name, "KEY=secret");
  write("empty/.env", "");
  write(".env.example", "KEY=");
  git("add", ".env", "empty/.env", ".env.example");
  execFileSync("git", ["-C", join(workspace, "nested"), "add", ".env.local"]);
  expect(await find()).toEqual({
    files: [".env", "later/.env", "nested/.env.local"],
    tracked: [".env", "nested/.env.local"],
  });
});

it("says that nothing is tracked where there is no repository, or no git", async () => {
  write(".env", "KEY=secret");
  expect(await find()).toEqual({ files: [".env"], tracked: [] });
  git("init", "--quiet");
  git("add", ".env");
  expect(await findEnvExposure(workspace, workspace)).toEqual({ files: [".env"], tracked: [] });
});

it("names files whose names hold controls and line breaks in one plain line", async () => {
  write(".env.\u001b[2J\nok", "KEY=secret");
  expect(await find()).toEqual({ files: [".env.?[2J?ok"], tracked: [] });
});

it("runs no program that the repository names", async () => {
  write(".env", "KEY=secret");
  git("init", "--quiet");
  git("add", ".env");
  write("monitor", `#!/bin/sh\ntouch ${workspace}/ran\n`);
  chmodSync(join(workspace, "monitor"), 0o755);
  git("config", "core.fsmonitor", join(workspace, "monitor"));
  expect(await find()).toEqual({ files: [".env"], tracked: [".env"] });
  expect(existsSync(join(workspace, "ran"))).toBe(false);
  git("status");
  expect(existsSync(join(workspace, "ran"))).toBe(true);
});
