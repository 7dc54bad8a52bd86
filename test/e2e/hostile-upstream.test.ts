import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

import { afterAll, describe, expect } from "vitest";

import { metaOf, type TestClient, textOf, upstream } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

const SECRET = "s3cr3t/of+the hostile=server";
const questions: string[] = [];
const requests: string[] = [];
let tripwire: Server;
/** At the same path on the host and, in the workspace, in the sandbox. */
let touched: string;
let modules: readonly string[];
test.override("options", {
  env: { HOSTILE_KEY: SECRET },
  elicit: (question) => {
    questions.push(JSON.stringify(question));
    return { action: "decline" };
  },
});
test.beforeAll(async ({ client }) => {
  tripwire = createServer((request, response) => {
    requests.push(request.url ?? "");
    response.end("{}");
  }).listen(0, "127.0.0.1");
  await once(tripwire, "listening");
  touched = join(client.workspace, "touched");
  await client.modules("everything", upstream("everything"));
  modules = await client.modules("hostile", {
    command: process.execPath,
    args: [join(import.meta.dirname, "servers/hostile.mjs")],
    env: {
      TRIPWIRE_URL: `http://127.0.0.1:${(tripwire.address() as AddressInfo).port}/schema.json`,
      TRIPWIRE_FILE: touched,
      KEY: "${HOSTILE_KEY}",
    },
  });
});
afterAll(() => tripwire.close());

/** The texts of a result that are modules, and not warnings. */
const isModule = ({ workspace }: TestClient, name: string) =>
  existsSync(join(workspace, `mcptools/hostile/${name}.py`));

describe("a server with hostile tools", () => {
  test("is registered, with a module for every tool and a warning for what was left out", ({ client }) => {
    expect(modules.slice(0, 1)).toEqual(["honest"]);
    const warnings = modules.filter((text) => !isModule(client, text));
    expect(warnings).toEqual([
      expect.stringContaining("This server can read files of the workspace"),
      expect.stringContaining("A schema of deeper is nested deeper than"),
    ]);
    expect(modules.length - warnings.length).toBe(40);
    expect(modules).toEqual(expect.arrayContaining(["class_", "_init_", "_main_", "a_b", "a_b_2", "a_b_3", "_1"]));
  });

  test("has modules of expected statements only, readable and bounded", async ({ client }) => {
    const packageDirectory = join(client.workspace, "mcptools/hostile");
    for (const name of readdirSync(packageDirectory)) {
      const { size } = statSync(join(packageDirectory, name));
      expect(size, name).toBeLessThan(1_000_000);
    }
    const code = `import ast, pathlib
kinds = set()
for path in pathlib.Path("mcptools/hostile").glob("*.py"):
    source = path.read_text()
    assert all(c.isprintable() or c == "\\n" for c in source), path
    kinds |= {type(node).__name__ for node in ast.parse(source).body}
    calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)}
    assert calls <= {"ConfigDict", "Field", "run_tool", "arun_tool", "_LOAD"} | {c for c in calls if c.endswith(".model_rebuild")}, calls
sorted(kinds)`;
    expect(await client.text(code)).toBe(
      "['Assign', 'AsyncFunctionDef', 'ClassDef', 'Expr', 'FunctionDef', 'ImportFrom']",
    );
  });

  test("is imported whole, and nothing of it is executed, fetched or written elsewhere", async ({ client }) => {
    const code = `import importlib, inspect, mcptools.hostile
names = sorted(path.stem for path in pathlib.Path("mcptools/hostile").glob("*.py") if path.stem != "__init__")
loaded = [importlib.import_module(f"mcptools.hostile.{name}") for name in names]
texts = [f"{inspect.signature(m.Params)} {m.__doc__}" for m in loaded]
help(mcptools.hostile)
len(loaded), all(m.Params for m in loaded)`;
    expect(await client.text(code, { max_output_chars: 100_000 })).toMatch(/\(40, True\)$/);
    expect(existsSync(touched)).toBe(false);
    expect(requests).toEqual([]);
    expect(readdirSync(client.workspace).sort()).toEqual([".env", "mcptools"]);
    expect(readdirSync(join(client.workspace, "mcptools")).sort()).toEqual(["everything", "hostile"]);
  });

  test("spoils neither its honest tool nor other servers", async ({ client }) => {
    const code = `from mcptools.hostile import honest
from mcptools.everything import echo
print(honest.run(honest.Params(a=40, b=2)), echo.run(echo.Params(message="fine")))`;
    expect(await client.text(code)).toBe("42 Echo: fine");
  });
});

describe("a hostile answer", () => {
  const call = (client: TestClient, tool: string) =>
    client.cell(`from mcptools.hostile import ${tool} as t\nr = t.run(t.Params())\nprint(repr(r)[:500])`);

  test("nested without end is an error of the call", async ({ client }) => {
    const result = await call(client, "deep_result");
    expect(textOf(result)).toMatch(/ToolError: .*nested/);
  });

  test("of odd blocks is text with what can be made of them", async ({ client }) => {
    expect(textOf(await call(client, "odd_result"))).toBe("''");
    expect(metaOf(await client.cell("[type(b).__name__ for b in r.content]")).status).toBe("ok");
  });

  test("that does not fit the schema is an error that holds it", async ({ client }) => {
    const code = `from ipybox_sandbox.toolapi import ToolError
from mcptools.hostile import wrong_result as t
try: t.run(t.Params())
except ToolError as error: print(error.result["structuredContent"])`;
    expect(await client.text(code)).toBe("{'n': 'no number'}");
  });

  test("of control sequences arrives in the cell, and not at the client", async ({ client }) => {
    const result = await client.cell("from mcptools.hostile import controls\nprint(controls.run(controls.Params()))");
    expect(textOf(result)).not.toContain("\u001b");
    expect(textOf(result)).toContain("end");
  });

  test("after a flood of progress, whose messages are bounded and without secrets", async ({ client }) => {
    const messages: string[] = [];
    const startedAt = performance.now();
    const result = await client.cell(
      "from mcptools.hostile import progress\nprint(progress.run(progress.Params()))",
      {},
      { onProgress: (message) => messages.push(message) },
    );
    expect(textOf(result)).toBe("done");
    expect(messages.length).toBeLessThan((performance.now() - startedAt) / 100 + 3);
    expect(messages.join("\n")).toContain("hostile.progress: ");
    expect(messages.join("\n")).toContain("${HOSTILE_KEY}");
    expect(messages.join("\n")).not.toContain(SECRET);
    expect(Math.max(...messages.map(({ length }) => length))).toBeLessThan(3_000);
  });

  test("after a question, which names the server and shows no secret", async ({ client }) => {
    expect(await client.text("from mcptools.hostile import ask\nprint(ask.run(ask.Params()))")).toBe("decline");
    expect(questions).toHaveLength(1);
    expect(questions[0]).toContain("The MCP server hostile asks: Is it ${HOSTILE_KEY}?");
    expect(questions[0]).not.toContain(SECRET);
    expect(questions[0]).not.toContain("\\u001b");
  });

  test("after a flood of list changes and noise leaves everything as it was", async ({ client }) => {
    expect(textOf(await call(client, "flood"))).toBe("'flooded'");
    expect(await client.text("print(honest.run(honest.Params(a=1, b=1)))")).toBe("2");
  });
});

test("its secret is in no file and no log", ({ client, directory }) => {
  const files = readdirSync(directory.path, { recursive: true, encoding: "utf8" })
    .map((name) => join(directory.path, name))
    .filter((path) => statSync(path).isFile());
  expect(files.filter((path) => readFileSync(path, "utf8").includes(SECRET))).toEqual([]);
  expect(client.stderr).not.toContain(SECRET);
});
