import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";

import { LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { afterAll, describe, expect, inject, test } from "vitest";

import { INSTRUCTIONS } from "../../src/server/instructions.ts";
import { VERSION } from "../../src/version.ts";
import { baseEnvironment, errorCodeOf, TestClient, TestDirectory, textOf, upstream } from "../helpers/client.ts";
import { onEngines } from "../helpers/engine-of-run.ts";
import { processesWith } from "../helpers/processes.ts";

const directory = new TestDirectory();
const bin = inject("ipyboxBin");
afterAll(() => directory[Symbol.dispose]());
const run = promisify(execFile);

interface Listed {
  readonly workspace: string;
  readonly owner: string;
}
const sandboxesOf = async (workspace: string) => {
  const { stdout } = await run(bin, ["ps", "--json"], {
    cwd: directory.make("elsewhere"),
    env: baseEnvironment(directory),
  });
  return (JSON.parse(stdout) as Listed[]).filter((sandbox) => sandbox.workspace === workspace);
};

/** An MCP server that neither the end of its stdin nor a signal that it can catch ends. */
const STUBBORN_SERVER = `
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => {});
setInterval(() => {}, 1000);
require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  const result = method === "initialize"
    ? { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "stubborn", version: "1" } }
    : { tools: [{ name: "idle", inputSchema: { type: "object" } }] };
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: "2.0", id, result }));
});`;

describe("the end of a server", () => {
  onEngines(["docker"], () => {
    test("initialize is answered before there is a sandbox", async () => {
      await using client = await TestClient.connect({ bin, directory, args: ["--image", "no-such-image:of-the-test"] });
      expect(client.client.getServerVersion()).toEqual({
        name: "ipybox",
        title: "ipybox: IPython in a sandbox",
        version: VERSION,
      });
      expect(client.client.getInstructions()).toBe(INSTRUCTIONS);
      expect((await client.client.listTools()).tools).toHaveLength(4);
      const result = await client.cell("1");
      expect(result.isError).toBe(true);
      expect(errorCodeOf(result)).toBe("image-build-failed");
    });
  });

  test.for(["stdin", "SIGTERM", "SIGINT"] as const)(
    "by %s in a cell leaves nothing and exits with 0 within 3 s",
    async (how) => {
      const workspace = directory.make(`ended-by-${how}`);
      const server = spawn(bin, ["--workspace", workspace], {
        env: baseEnvironment(directory),
        stdio: ["pipe", "pipe", "ignore"],
      });
      const initialize = {
        protocolVersion: "2025-06-18",
        capabilities: {},
        clientInfo: { name: "test", version: "1" },
      };
      server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: initialize })}\n`);
      server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" })}\n`);
      const call = { name: "execute_ipython_cell", arguments: { code: "6 * 7" } };
      server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: 2, method: "tools/call", params: call })}\n`);
      let answers = "";
      server.stdout.on("data", (chunk: Buffer) => (answers += chunk.toString()));
      await expect.poll(() => answers, { timeout: 60_000 }).toContain('"text":"42"');
      expect(await sandboxesOf(workspace)).toHaveLength(1);
      const mark = `stubborn-${how}-of-${process.pid}`;
      const stubborn = { command: process.execPath, args: ["-e", STUBBORN_SERVER], env: { MARK: mark } };
      const register = { name: "register_mcp_server", arguments: { server_name: "stubborn", server_params: stubborn } };
      server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: 3, method: "tools/call", params: register })}\n`);
      await expect.poll(() => answers, { timeout: 20_000 }).toContain('"id":3');
      expect(processesWith(mark)).not.toEqual([]);
      const endless = { ...call, arguments: { code: "open('running', 'w').close()\nwhile True: pass" } };
      server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: 4, method: "tools/call", params: endless })}\n`);
      await expect.poll(() => existsSync(`${workspace}/running`), { timeout: 10_000 }).toBe(true);
      if (how === "stdin") server.stdin.end();
      else server.kill(how);
      const [code] = (await once(server, "exit")) as [number | null];
      expect(code).toBe(0);
      await expect.poll(() => processesWith(mark), { timeout: 5000 }).toEqual([]);
      await expect.poll(() => sandboxesOf(workspace), { timeout: 5000 }).toEqual([]);
      expect(existsSync(`${workspace}/.env`)).toBe(false);
    },
  );

  test("by SIGKILL leaves no container and no upstream", async () => {
    const workspace = directory.make("killed");
    const client = await TestClient.connect({ bin, directory, workspace });
    const mark = `mark-of-this-test-${process.pid}`;
    await client.call("register_mcp_server", {
      server_name: "everything",
      server_params: { ...upstream("everything"), env: { MARK: mark } },
    });
    expect(await client.text("1")).toBe("1");
    expect(processesWith(mark)).not.toEqual([]);
    process.kill(client.transport.pid ?? 0, "SIGKILL");
    await expect.poll(() => sandboxesOf(workspace), { timeout: 5000 }).toEqual([]);
    await expect.poll(() => processesWith(mark), { timeout: 5000 }).toEqual([]);
  });

  test("does not come when nobody reads its log", async () => {
    const started = `${directory.path}/without-a-log`;
    writeFileSync(started, '#!/bin/bash\nexec "$BIN" "$@" 2> >(exit)\n', { mode: 0o755 });
    const workspace = directory.make("unread");
    await using client = await TestClient.connect({ bin: started, directory, workspace, env: { BIN: bin } });
    expect((await client.register("nobody", { command: "no-such-program" })).isError).toBe(true); // which is logged
    expect(await client.text("6 * 7")).toBe("42");
  });
});

describe("the command line", () => {
  test.for([
    [
      ["--bogus", "--memory", "lots", "--workspace", "/", "--mount", "/etc", "--allow-domain", "http://x"],
      ["--bogus", "--memory", "whole file system", "--mount", "--allow-domain"],
    ],
    [
      ["--protect", "../elsewhere", "--memory", "5"],
      ["../elsewhere", "at least 6m"],
    ],
    [["--workspace", "/no/such/parent"], ["/no/such/parent"]],
    [["--workspace", "/"], ["whole file system"]],
    [["--mcp-config", "/no/such/file.json"], ["/no/such/file.json"]],
    [
      ["--sandbox-config", "/no/such/settings.json"],
      ["--sandbox-config", "/no/such/settings.json"],
    ],
    [
      ["--policy=p.json", "--transport=http", "--audit-log=off"],
      ["option --policy", "option --transport", "option --audit-log"],
    ],
    [["frobnicate"], ["frobnicate"]],
    [["run"], ["FILE"]],
    [
      ["run", "no-such.py", "--bogus", "--mount", "/"],
      ["no-such.py", "option --bogus", "--mount '/'"],
    ],
    [["run", "/"], ["/ is a directory"]],
    [
      ["servers", "--workspace", "/", "--bogus"],
      ["option --bogus", "whole file system"],
    ],
  ] as const)("refuses %s with exit code 2 and starts nothing", async ([args, words]) => {
    const failed = run(bin, [...args], { env: baseEnvironment(directory), cwd: directory.make("cwd") });
    await expect(failed).rejects.toMatchObject({ code: 2, stdout: "" });
    const { stderr } = (await failed.catch((error: unknown) => error)) as { stderr: string };
    for (const word of words) expect(stderr).toContain(word);
  });

  test("refuses a variable for kernels that their runtime needs, at the start", async () => {
    const env = { ...baseEnvironment(directory), KERNEL_ENV_HOME: "/elsewhere" };
    await expect(run(bin, [], { env, cwd: directory.make("cwd") })).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringContaining("KERNEL_ENV_HOME") as string,
    });
  });

  test("run streams a file's output and tells by its exit code how it went", async () => {
    const execute = async (code: string) => {
      const child = spawn(bin, ["run", "-"], {
        env: baseEnvironment(directory),
        cwd: directory.make("run"),
        stdio: ["pipe", "pipe", "ignore"],
      });
      child.stdin.end(code);
      let output = "";
      child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
      const [exit] = (await once(child, "close")) as [number];
      return { output, exit };
    };
    expect(await execute("print('a\\x1b[2J'); 6 * 7")).toEqual({ output: "a\n42\n", exit: 0 });
    const failed = await execute("print('before'); 1/0");
    expect(failed.output).toMatch(/^before\n[\s\S]*ZeroDivisionError: division by zero\n$/);
    expect(failed.exit).toBe(1);
  });

  test("run ends when nobody reads its output any more", async () => {
    const child = spawn(bin, ["run", "-"], { env: baseEnvironment(directory), cwd: directory.make("run") });
    child.stdin.end("while True: print('on and on')");
    let words = "";
    child.stderr.on("data", (chunk: Buffer) => (words += chunk.toString()));
    await once(child.stdout, "data");
    child.stdout.destroy();
    expect(await once(child, "close")).toEqual([1, null]);
    expect(words).not.toContain("EPIPE");
  });

  test("servers lists registrations as they were given, and removes them", async () => {
    const workspace = directory.make("listed");
    await using client = await TestClient.connect({
      bin,
      directory,
      workspace,
      env: { TOKEN_OF_TEST: "secret-value-of-the-test" },
    });
    const params = { ...upstream("everything"), env: { TOKEN: "${TOKEN_OF_TEST}" } };
    expect(
      (await client.call("register_mcp_server", { server_name: "everything", server_params: params })).isError,
    ).toBeFalsy();
    const options = { env: baseEnvironment(directory) };
    const { stdout } = await run(bin, ["servers", "--workspace", workspace], options);
    expect(JSON.parse(stdout)).toMatchObject({ everything: { env: { TOKEN: "${TOKEN_OF_TEST}" } } });
    expect(stdout).not.toContain("secret-value-of-the-test");
    await run(bin, ["servers", "--workspace", workspace, "--remove", "everything"], options);
    expect((await run(bin, ["servers", "--workspace", workspace], options)).stdout).toBe("{}\n");
  });

  test("doctor says of every check how it went", async () => {
    const { stdout } = await run(bin, ["doctor", "--json"], {
      env: baseEnvironment(directory),
      cwd: directory.make("doctor"),
    });
    const checks = JSON.parse(stdout) as { name: string; status: string; remedy?: string }[];
    expect(checks.length).toBeGreaterThan(4);
    for (const check of checks.filter(({ status }) => status !== "ok")) expect(check.remedy).toBeTruthy();
    expect(checks.filter(({ status }) => status === "fail")).toEqual([]);
    expect(checks).toContainEqual(expect.objectContaining({ name: "env files", status: "ok" }));
  });

  test("doctor asks the package indexes, with their credentials, and tells which does not answer", async () => {
    const asked: (string | undefined)[] = [];
    await using index = createServer((request, response) => {
      asked.push(request.url, request.headers.authorization);
      response.writeHead(request.url?.startsWith("/private/") === true ? 401 : 404).end();
    }).listen(0, "127.0.0.1");
    await once(index, "listening");
    const address = `127.0.0.1:${(index.address() as AddressInfo).port}`; // it listens on no pipe
    const registries = async (indexUrl: string, extra: string) => {
      const { stdout } = await run(bin, ["doctor", "--json"], {
        env: { ...baseEnvironment(directory), IPYBOX_INDEX_URL: indexUrl, IPYBOX_EXTRA_INDEX_URL: extra },
        cwd: directory.make("doctor"),
      });
      return (JSON.parse(stdout) as { name: string }[]).find(({ name }) => name === "registries");
    };
    expect(await registries(`http://user:secret-pass@${address}/simple`, "")).toEqual({
      name: "registries",
      status: "ok",
      detail: `packages come from http://${address}/simple/`,
    });
    expect(asked).toEqual(["/simple/pip/", `Basic ${Buffer.from("user:secret-pass").toString("base64")}`]);
    expect(
      await registries(`http://${address}/simple`, `http://a:secret-pass@127.0.0.1:2/x,http://${address}/private/`),
    ).toEqual({
      name: "registries",
      status: "warn",
      detail: `packages come from http://${address}/simple/; http://127.0.0.1:2/x/ does not answer (connect ECONNREFUSED 127.0.0.1:2); http://${address}/private/ answers 401`,
      remedy: expect.stringContaining("--index-url") as string,
    });
  });

  test("doctor and ps run where no workspace can be, in the home directory", async () => {
    const home = directory.make("home");
    const options = { env: { ...baseEnvironment(directory), HOME: home }, cwd: home };
    const doctor = await run(bin, ["doctor", "--json"], options).catch((error: unknown) => error as { stdout: string });
    const checks = JSON.parse(doctor.stdout) as { name: string; status: string; remedy?: string }[];
    const failed = checks.filter(({ status }) => status === "fail");
    expect(failed.map(({ name }) => name)).toEqual(["workspace"]);
    expect(failed[0]?.remedy).toContain("--workspace");
    expect(JSON.parse((await run(bin, ["ps", "--json"], options)).stdout)).toBeInstanceOf(Array);
  });

  test("doctor warns of an env file that git tracks, and advises --env-file", async () => {
    const workspace = directory.make("doctor-tracked");
    writeFileSync(`${workspace}/.env`, "KEY=secret\n");
    await run("git", ["-C", workspace, "init", "--quiet"]);
    const envFiles = async () => {
      const options = { env: baseEnvironment(directory), cwd: workspace };
      const { stdout } = await run(bin, ["doctor", "--json"], options);
      return (JSON.parse(stdout) as { name: string }[]).find(({ name }) => name === "env files");
    };
    const remedy = expect.stringContaining("--env-file") as string;
    expect(await envFiles()).toMatchObject({
      status: "warn",
      detail: expect.stringMatching(/masks hold: \.env$/) as string,
      remedy,
    });
    await run("git", ["-C", workspace, "add", ".env"]);
    expect(await envFiles()).toMatchObject({
      status: "warn",
      detail: expect.stringMatching(/git.*: \.env$/) as string,
      remedy,
    });
  });
});

test("a workspace that is removed under the server is said to be gone, and used again when it is back", async () => {
  const workspace = directory.make("removed");
  await using client = await TestClient.connect({ bin, directory, workspace });
  expect(await client.text("6 * 7")).toBe("42");
  rmSync(workspace, { recursive: true });
  for (const [tool, args] of [
    ["execute_ipython_cell", { code: "1" }],
    ["reset", {}],
    ["install_package", { package_name: "cowsay" }],
  ] as const) {
    const result = await client.call(tool, args);
    expect([tool, errorCodeOf(result)]).toEqual([tool, "workspace-gone"]);
    expect(textOf(result)).toContain("\nHint: ");
  }
  directory.make("removed");
  expect(await client.text("import os; os.listdir()")).toBe("['.env']");
});

test("the client is sent the log's records, from the level on that it chooses, and pings are answered", async () => {
  await using client = await TestClient.connect({ bin, directory, workspace: directory.make("logged") });
  const records: unknown[] = [];
  client.client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void records.push(params));
  await client.call("execute_ipython_cell", {});
  const data = expect.objectContaining({ message: "call failed", code: "invalid-arguments" }) as unknown;
  await expect.poll(() => records).toContainEqual({ level: "info", logger: "ipybox", data });
  await client.client.setLoggingLevel("error");
  const before = records.length;
  await client.call("execute_ipython_cell", {});
  expect(await client.client.ping()).toEqual({});
  expect(records).toHaveLength(before);
});

test("wrong arguments are results that say what is wrong, and the next call works", async () => {
  await using client = await TestClient.connect({ bin, directory, workspace: directory.make("wrong") });
  for (const args of [
    { code: 5 },
    {},
    { code: "1", timeout: 0 },
    { code: "1", timeout: "soon" },
    { code: "1", max_output_chars: -1 },
  ]) {
    const result = await client.call("execute_ipython_cell", args);
    expect(result.isError).toBe(true);
    expect(errorCodeOf(result)).toBe("invalid-arguments");
  }
  expect(textOf(await client.cell("1", { timeout: "soon" }))).toContain('timeout: must be a number, not "soon"');
  for (const [tool, args] of [
    ["execute_ipython_cell", { code: "1", max_output_char: 5 }],
    ["register_mcp_server", { server_name: "x", server_params: {}, max_output_char: 5 }],
    ["install_package", { package_name: "six", max_output_char: 5 }],
    ["reset", { max_output_char: 5 }],
  ] as const) {
    const result = await client.call(tool, args);
    expect([tool, errorCodeOf(result)]).toEqual([tool, "invalid-arguments"]);
    expect(textOf(result)).toContain('"max_output_char"'); // a name that is none, a typo as a rule
  }
  expect(textOf(await client.cell("1 + 1"))).toBe("2");
});

onEngines(["docker"], () => {
  test("without an engine the server stays up and says what to do", async () => {
    const env = { DOCKER_HOST: `unix://${directory.path}/no-engine.sock` };
    await using client = await TestClient.connect({ bin, directory, workspace: directory.make("no-engine"), env });
    const result = await client.cell("1");
    expect(errorCodeOf(result)).toBe("engine-unreachable");
    expect(textOf(result)).toContain("Hint:");
    expect((await client.client.listTools()).tools).toHaveLength(4);
  });
});
