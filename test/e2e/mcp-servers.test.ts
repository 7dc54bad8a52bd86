import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect } from "vitest";

import { errorCodeOf, metaOf, textOf, upstream } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

test.override("options", ({ directory }) => {
  const workspace = directory.make("workspace");
  writeFileSync(join(workspace, ".env"), "BRAVE_API_KEY=dummy-key-of-the-test\nFROM_FILE=file-value\n");
  return { workspace, env: { FROM_PROCESS: "process-value" } };
});

describe("a registered MCP server", () => {
  test("is answered with one text per module, in the server's order", async ({ client }) => {
    const result = await client.register("everything", upstream("everything"));
    expect(result.isError).toBeFalsy();
    const modules = result.content.map((block) => (block.type === "text" ? block.text : block.type));
    expect(modules).toContain("get_sum");
    expect(modules).toContain("get_structured_content");
    for (const module of modules)
      expect(existsSync(join(client.workspace, `mcptools/everything/${module}.py`))).toBe(true);
  });

  test("is called from a cell, in both styles of import", async ({ client }) => {
    expect(await client.text("from mcptools.everything.get_sum import Params, run\nrun(Params(a=20, b=22))")).toContain(
      "42",
    );
    const result = await client.cell("from mcptools.everything import echo\necho.run(echo.Params(message='hi'))");
    expect(textOf(result)).toBe("'Echo: hi'");
    expect(metaOf(result).toolCalls).toMatchObject([{ server: "everything", tool: "echo", status: "done" }]);
  });

  test("is called by programs that a cell starts, too", async ({ client }) => {
    const program = "from mcptools.everything.echo import Params, run; print(run(Params(message='from a program')))";
    const code = `import subprocess, sys\nsubprocess.check_output([sys.executable, '-c', "${program}"], text=True)`;
    expect(await client.text(code)).toBe("'Echo: from a program\\n'");
  });

  test("has its modules as resources, and nothing beside them", async ({ client }) => {
    const read = (uri: string) => client.client.readResource({ uri });
    const text = readFileSync(join(client.workspace, "mcptools/everything/echo.py"), "utf8");
    const uri = "ipybox://mcptools/everything/echo";
    expect(await read(uri)).toEqual({ contents: [{ uri, mimeType: "text/x-python", text }] });
    for (const other of ["ipybox://mcptools/everything/none", "ipybox://mcptools/../echo", "file:///etc/passwd"])
      await expect(read(other)).rejects.toThrow("unknown resource");
  });

  test("is explained by help(), within what a cell shows", async ({ client }) => {
    const text = await client.text("from mcptools.everything import get_sum\nhelp(get_sum)");
    expect(text).toContain("Params(*, a: float, b: float) -> None");
    expect(text).toContain("run(params: 'Params') -> 'ToolText'");
    expect(text).not.toContain("model_dump");
  });

  test("answers structured content as a Result", async ({ client }) => {
    const code =
      "from mcptools.everything.get_structured_content import Params, run\nr = run(Params(location='Chicago'))\n(type(r).__name__, type(r.temperature).__name__)";
    expect(await client.text(code)).toMatch(/^\('Result', '(int|float)'\)$/);
  });

  test("is called concurrently with arun", async ({ client }) => {
    const code =
      "import asyncio\nfrom mcptools.everything.get_sum import Params, arun\nlen(await asyncio.gather(*(arun(Params(a=i, b=1)) for i in range(40))))";
    expect(await client.text(code)).toBe("40");
  });

  test("checks arguments before anything is sent", async ({ client }) => {
    const result = await client.cell("from mcptools.everything.get_sum import Params\nParams(a='x', b=1, c=2)");
    expect(textOf(result)).toContain("ValidationError");
  });

  test("gets placeholders resolved from the process environment and the env file, and nothing else of either", async ({
    client,
  }) => {
    await client.register("env", { ...upstream("everything"), env: { A: "${FROM_PROCESS}", B: "${FROM_FILE}" } });
    const text = await client.text("from mcptools.env.get_env import Params, run\nprint(run(Params()))");
    const environment = JSON.parse(text) as Record<string, string>;
    expect(environment).toMatchObject({ A: "process-value", B: "file-value" });
    expect(Object.keys(environment)).not.toContain("FROM_PROCESS");
    expect(Object.keys(environment)).not.toContain("XDG_STATE_HOME");
  });

  test("with a key by placeholder generates its API, and fails with its own words when it is offline", async ({
    client,
  }) => {
    const result = await client.register("brave_search", {
      ...upstream("brave-search"),
      env: { BRAVE_API_KEY: "${BRAVE_API_KEY}" },
    });
    expect(result.isError).toBeFalsy();
    expect(existsSync(join(client.workspace, "mcptools/brave_search/brave_web_search.py"))).toBe(true);
    const failed = await client.cell(
      "from mcptools.brave_search.brave_web_search import Params, run\nrun(Params(query='x', count=3))",
    );
    expect(textOf(failed)).toContain("ToolError");
    expect(JSON.stringify(failed)).not.toContain("dummy-key-of-the-test");
  });

  test("leaves no resolved secret in the state directory or the generated files", ({ client, directory }) => {
    const files = (root: string) =>
      readdirSync(root, { recursive: true, withFileTypes: true }).flatMap((entry) =>
        entry.isFile() && entry.name !== ".env" ? [readFileSync(join(entry.parentPath, entry.name), "latin1")] : [],
      );
    const all = [...files(join(directory.path, "state")), ...files(join(client.workspace, "mcptools"))].join("\n");
    expect(all).toContain("${BRAVE_API_KEY}");
    expect(all).not.toContain("dummy-key-of-the-test");
  });

  test("cancels its calls when the cell is stopped, and the answer names them", async ({ client }) => {
    const code =
      "from mcptools.everything import echo, trigger_long_running_operation as long\n" +
      "echo.run(echo.Params(message='first'))\nlong.run(long.Params(duration=60, steps=1))";
    const result = await client.cell(code, { timeout: 1 });
    expect(textOf(result)).toMatch(
      /\[Tool calls: everything\.echo done in [\d.]+ s; everything\.trigger-long-running-operation in flight when stopped\]$/,
    );
    expect(metaOf(result).toolCalls).toMatchObject([
      { server: "everything", tool: "echo", status: "done", durationMs: expect.any(Number) as number },
      { server: "everything", tool: "trigger-long-running-operation" },
    ]);
    expect(await client.text("echo.run(echo.Params(message='again'))")).toBe("'Echo: again'");
  });
});

describe("a registration that fails", () => {
  test.for([
    ["a name that is no identifier", "../x", upstream("everything"), "invalid-server-name"],
    ["a name that is a keyword", "class", upstream("everything"), "invalid-server-name"],
    ["unknown keys", "x", { ...upstream("everything"), nonsense: 1 }, "invalid-server-params"],
    ["no command and no url", "x", {}, "invalid-server-params"],
    [
      "a variable that is not set",
      "x",
      { ...upstream("everything"), env: { A: "${NOT_SET_ANYWHERE}" } },
      "missing-variable",
    ],
    ["a command that does not exist", "x", { command: "no-such-command-here" }, "upstream-start-failed"],
    [
      "a server that exits",
      "x",
      { command: process.execPath, args: ["-e", "console.error('why it failed'); process.exit(3)"] },
      "upstream-start-failed",
    ],
    ["a URL that refuses", "x", { url: "http://127.0.0.1:9/mcp", timeout: 5 }, "upstream-start-failed"],
  ] as const)("because of %s says so, and nothing is left", async ([, name, params, code], { client }) => {
    const result = await client.register(name, params);
    expect(result.isError).toBe(true);
    expect(errorCodeOf(result)).toBe(code);
    expect(textOf(result)).toContain("\nHint: ");
    expect(existsSync(join(client.workspace, "mcptools/x"))).toBe(false);
    expect(await client.text("1 + 1")).toBe("2");
  });

  test("quotes the last words of the server on stderr", async ({ client }) => {
    const params = { command: process.execPath, args: ["-e", "console.error('why it failed'); process.exit(3)"] };
    expect(textOf(await client.register("x", params))).toContain("why it failed");
  });

  test("names the variable and where to set it", async ({ client }) => {
    const text = textOf(await client.register("x", { ...upstream("everything"), env: { A: "${NOT_SET_ANYWHERE}" } }));
    expect(text).toContain("NOT_SET_ANYWHERE");
    expect(text).toContain(".env");
  });

  test("leaves an earlier registration of that name as it was", async ({ client }) => {
    await client.register("stable", upstream("everything"));
    expect((await client.register("stable", { command: "no-such-command-here" })).isError).toBe(true);
    expect(await client.text("from mcptools.stable import echo\necho.run(echo.Params(message='still'))")).toBe(
      "'Echo: still'",
    );
  });
});

test("a module generated in an earlier session works in a later one, after reset and without registering", async ({
  client,
  connect,
}) => {
  await client.register("kept", upstream("everything"));
  await client.call("reset");
  const code = "from mcptools.kept.echo import Params, run\nrun(Params(message='later'))";
  expect(await client.text(code)).toBe("'Echo: later'");
  await using later = await connect({ workspace: client.workspace });
  expect(await later.text(code)).toBe("'Echo: later'");
});

test("the servers of --mcp-config are registered in the background", async ({ connect, directory }) => {
  const workspace = directory.make("configured");
  const file = join(directory.path, "servers.json");
  writeFileSync(file, JSON.stringify({ mcpServers: { memory: { ...upstream("memory"), disabled: false } } }));
  await using configured = await connect({
    workspace,
    args: ["--mcp-config", file, "--registration", "config-only"],
  });
  const refused = await configured.register("x", upstream("everything"));
  expect(errorCodeOf(refused)).toBe("registration-disabled");
  const module = join(workspace, "mcptools/memory/read_graph.py");
  await expect.poll(() => existsSync(module), { timeout: 60_000 }).toBe(true);
  const code = "from mcptools.memory.read_graph import Params, run; run(Params()).entities";
  expect(await configured.text(code)).toBe("[]");
});
