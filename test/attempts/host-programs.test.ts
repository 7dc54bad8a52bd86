import { execFile, execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { errorCodeOf, textOf, upstream } from "../helpers/client.ts";
import { pythonUpstream } from "../helpers/python-servers.ts";
import { SessionUnderAttack } from "./session-under-attack.ts";

const STATUS_SERVER = join(import.meta.dirname, "servers/git-status.mjs");
let attacked: SessionUnderAttack;
let marker: string;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({
    prepare: (workspace, directory) => {
      marker = join(directory.path, "planted-program-ran");
      mkdirSync(join(workspace, ".venv/bin"), { recursive: true });
    },
    // What is written for the server itself to look programs up in, as by an activated environment.
    env: { PATH: `./node_modules/.bin:.venv/bin:.:${process.env["PATH"] ?? ""}` },
  });
});
afterAll(() => attacked[Symbol.asyncDispose]());

const register = (server_params: object, server_name = "planted") =>
  attacked.client.call("register_mcp_server", { server_name, server_params });

/** A program that says it ran, planted by a cell at `path`. */
const plant = (path: string) =>
  attacked.client.text(`import os
os.makedirs(os.path.dirname("${path}") or ".", exist_ok=True)
open("${path}", "w").write("#!/bin/sh\\ntouch ${marker}\\n")
os.chmod("${path}", 0o755)`);

describe("programs that a cell plants are not run on the host:", () => {
  test.for(["node_modules/.bin/npx", ".venv/bin/npx", "npx", "node_modules/npx/index.js"])(
    "%s, when a registration asks for npx",
    async (path) => {
      await plant(path);
      const result = await register({ command: "npx", args: ["--version"], timeout: 20 });
      expect(result.isError).toBe(true); // npx is no MCP server
      expect(existsSync(marker)).toBe(false);
      await attacked.client.text(`os.unlink("${path}")`);
    },
  );

  test("a program in the workspace that is first in the given PATH", async () => {
    await plant(".venv/bin/node");
    const env = { PATH: `${attacked.workspace}/.venv/bin:.venv/bin:${process.env["PATH"] ?? ""}` };
    const { args } = upstream("memory");
    const result = await register({ command: "node", args, env });
    expect(result.isError ?? false).toBe(false);
    expect(existsSync(marker)).toBe(false);
  });

  test("but the same shell would have run it", async () => {
    const env = { PATH: `${attacked.workspace}/.venv/bin:/usr/bin:/bin` };
    await promisify(execFile)("sh", ["-c", "node"], { env });
    expect(existsSync(marker)).toBe(true);
    execFileSync("rm", [marker]);
  });

  test.for([
    ["by its absolute path", (workspace: string) => ({ command: `${workspace}/server.sh` })],
    ["by a relative path", () => ({ command: "./server.sh" })],
    ["by an interpreter", (workspace: string) => ({ command: "sh", args: [`${workspace}/server.sh`] })],
    ["by ${WORKSPACE}", () => ({ command: "${WORKSPACE}/server.sh" })],
    ["through a link elsewhere", (workspace: string) => ({ command: `${workspace}/../to-workspace/server.sh` })],
    ["by the working directory", (workspace: string) => ({ command: "sh", args: ["server.sh"], cwd: workspace })],
  ] as const)("a server that is started from the workspace %s", async ([, params]) => {
    await plant("server.sh");
    const link = join(attacked.directory.path, "to-workspace");
    if (!existsSync(link)) execFileSync("ln", ["-s", attacked.workspace, link]);
    const result = await register(params(attacked.workspace));
    expect([errorCodeOf(result), existsSync(marker)]).toEqual([
      expect.stringMatching(/workspace-program|invalid-server-params|upstream-start-failed/) as string,
      false,
    ]);
  });

  test("a server in the workspace runs where the user has allowed it", async () => {
    await using allowed = await SessionUnderAttack.open({
      args: ["--allow-workspace-upstream"],
      prepare: (workspace) => {
        writeFileSync(join(workspace, "server.sh"), `#!/bin/sh\ntouch ${marker}\n`);
        chmodSync(join(workspace, "server.sh"), 0o755);
      },
    });
    await allowed.client.call("register_mcp_server", {
      server_name: "own",
      server_params: { command: `${allowed.workspace}/server.sh`, timeout: 10 },
    });
    expect(existsSync(marker)).toBe(true);
    execFileSync("rm", [marker]);
  });

  test("a sitecustomize.py or a module in the workspace, when a Python server is started", async () => {
    for (const name of ["sitecustomize.py", "usercustomize.py", "json.py", "asyncio.py"]) {
      await attacked.client.text(`open("${name}", "w").write("open('${marker}', 'w')")`);
    }
    await register({ command: "python3", args: ["-c", "import json, asyncio"], timeout: 10 });
    expect(existsSync(marker)).toBe(false);
    execFileSync("python3", ["-c", "import json"], {
      cwd: attacked.workspace,
      env: { ...process.env, PYTHONPATH: "." },
    });
    expect(existsSync(marker)).toBe(true);
    execFileSync("rm", [marker]);
    await attacked.client.text(
      `[os.unlink(n) for n in ("sitecustomize.py", "usercustomize.py", "json.py", "asyncio.py")]`,
    );
  });

  test("npm's settings in the workspace, which a plain npx there follows", async () => {
    await plant("shell.sh");
    await attacked.client.text(`open(".npmrc", "w").write("script-shell=" + os.path.abspath("shell.sh"))
open("package.json", "w").write('{"name": "x"}')`);
    const args = ["-c", "true"];
    await register({ command: "npx", args, timeout: 20 });
    expect(existsSync(marker)).toBe(false);
    await promisify(execFile)("npx", args, { cwd: attacked.workspace });
    expect(existsSync(marker)).toBe(true);
    execFileSync("rm", [marker]);
    await attacked.client.text(`[os.unlink(n) for n in (".npmrc", "package.json", "shell.sh")]`);
  });
});

describe("a repository that a cell builds", () => {
  const repository = () => join(attacked.workspace, "repository");
  beforeAll(async () => {
    // With git alone: a new repository is protected only from the next sandbox on.
    await attacked.client.text(`import os, subprocess
monitor = os.path.abspath("monitor.sh")
open(monitor, "w").write("#!/bin/sh\\ntouch ${marker}\\n"); os.chmod(monitor, 0o755)
os.makedirs("repository", exist_ok=True)
subprocess.run(f"""cd repository && git init -q && git config user.email a@b && git config user.name x
git config core.fsmonitor {monitor}
cp {monitor} .git/hooks/post-index-change; cp {monitor} .git/hooks/pre-commit
touch file && git add file""", shell=True, capture_output=True)
os.path.exists("repository/.git/index")`);
    execFileSync("rm", ["-f", marker]);
  });

  test("makes no upstream that runs git run its monitor or hooks", async () => {
    const registered = await register({ command: process.execPath, args: [STATUS_SERVER] }, "git");
    expect(textOf(registered)).toContain("status");
    const said = await attacked.client.text(`from mcptools.git import status
print(status.run(status.Params(path="${repository()}")))`);
    expect(said).toContain("file");
    expect(existsSync(marker)).toBe(false);
  });

  test("makes mcp-server-git run none of them, though it compares and stages", async () => {
    // Run by root, git would refuse it as another user's.
    const env = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "safe.directory", GIT_CONFIG_VALUE_0: "*" };
    expect((await register({ ...pythonUpstream("git"), env }, "real_git")).isError ?? false).toBe(false);
    const said = await attacked.client.text(`from mcptools.real_git import git_status, git_diff_unstaged, git_add
open("repository/another", "w").close()
print(git_status.run(git_status.Params(repo_path="${repository()}")))
print(git_diff_unstaged.run(git_diff_unstaged.Params(repo_path="${repository()}")))
print(git_add.run(git_add.Params(repo_path="${repository()}", files=["another"])))`);
    expect(said).toMatch(/staged/i);
    expect(existsSync(marker)).toBe(false);
  });

  test("does make a plain git status run them", async () => {
    await promisify(execFile)("git", ["-c", "safe.directory=*", "-C", repository(), "status"]);
    expect(existsSync(marker)).toBe(true);
    execFileSync("rm", [marker]);
  });
});
