import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

import type { CallToolResult, InitializeResult, ListToolsResult } from "@modelcontextprotocol/sdk/types.js";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";

import { claudeCode } from "../helpers/claude-code.ts";
import { baseEnvironment, TestDirectory, textOf, upstream } from "../helpers/client.ts";
import { type ClientPrograms, installClientPrograms } from "../helpers/client-programs.ts";
import { pythonWithSdk } from "../helpers/python-servers.ts";

/** Clients that others wrote, as they are published. */
const bin = inject("ipyboxBin");
const directory = new TestDirectory();
const run = promisify(execFile);
const options = { env: baseEnvironment(directory), maxBuffer: 16 * 1024 * 1024 };
let programs: ClientPrograms;
beforeAll(() => (programs = installClientPrograms()));
afterAll(() => directory[Symbol.dispose]());

describe("the Inspector's command line", () => {
  const inspect = async (...args: string[]) => {
    const workspace = directory.make("inspected");
    const { stdout, stderr } = await run(
      programs.inspector,
      ["--cli", bin, "--workspace", workspace, ...args],
      options,
    );
    return { answer: JSON.parse(stdout) as unknown, stderr };
  };

  test("lists the tools and finds nothing wrong with their schemas", async () => {
    const { answer, stderr } = await inspect("--method", "tools/list", "--strict");
    expect((answer as ListToolsResult).tools).toHaveLength(4);
    expect(stderr).not.toMatch(/Warning:|Error:|[1-9]\d* (error|warning)/);
  });

  test("calls a tool", async () => {
    const call = ["--method", "tools/call", "--tool-name", "execute_ipython_cell", "--tool-args-json"];
    const { answer } = await inspect(...call, JSON.stringify({ code: "6 * 7" }), "--format", "json");
    expect(answer).toMatchObject({ result: { content: [{ type: "text", text: "42" }], isError: false } });
  });
});

test("Claude Code finds the server that it was told of healthy", async () => {
  const claude = claudeCode(directory, { project: directory.make("project") });
  await claude("mcp", "add", "ipybox", "--", bin, "--workspace", directory.make("project"));
  expect(await claude("mcp", "list")).toMatch(/^ipybox: .*✔ Connected$/m);
});

describe.for(["2.x", "1.x"] as const)("the Python SDK's client, %s", (line) => {
  test("registers a server, calls it, plots, and sees an error", async () => {
    const workspace = directory.make(`python-${line}`);
    const calls = [
      ["register_mcp_server", { server_name: "everything", server_params: upstream("everything") }],
      [
        "execute_ipython_cell",
        { code: "from mcptools.everything.get_sum import Params, run\nprint(run(Params(a=20, b=22)))" },
      ],
      ["execute_ipython_cell", { code: "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()" }],
      ["execute_ipython_cell", { code: "print('before')\n1 / 0" }],
      ["execute_ipython_cell", { code: "raise ValueError('half a pair: ' + chr(0xd800))" }],
    ];
    const session = resolve(import.meta.dirname, "../clients/session.py");
    const args = [session, JSON.stringify(calls), bin, "--workspace", workspace];
    const { stdout } = await run(pythonWithSdk(line), args, options);
    const [started, listed, ...results] = JSON.parse(stdout) as [
      InitializeResult,
      ListToolsResult,
      ...CallToolResult[],
    ];
    const [registered, called, plotted, failed, halved] = results as [
      CallToolResult,
      CallToolResult,
      CallToolResult,
      CallToolResult,
      CallToolResult,
    ];

    expect(started.serverInfo.name).toBe("ipybox");
    expect(listed.tools).toHaveLength(4);
    expect(registered.content).toContainEqual(expect.objectContaining({ text: "get_sum" }));
    expect(textOf(called)).toBe("The sum of 20 and 22 is 42.");
    expect(plotted.content).toContainEqual(expect.objectContaining({ type: "image", mimeType: "image/png" }));
    expect(existsSync(join(workspace, /\((images\/.*\.png)\)/.exec(textOf(plotted))?.[1] ?? ""))).toBe(true);
    expect(failed.isError).toBe(true);
    expect(textOf(failed)).toMatch(/^before\n[^]*ZeroDivisionError: division by zero$/);
    expect(textOf(halved)).toMatch(/ValueError: half a pair: \ufffd$/);
  });
});
