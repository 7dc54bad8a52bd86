import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect } from "vitest";

import { textOf } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

/** What users of the original ipybox rely on. */
test.override("options", { env: { KERNEL_ENV_X: "from outside" } });

test("the four tools have the original's names, parameters and defaults", async ({ client }) => {
  const { tools } = await client.client.listTools();
  const properties = (name: string) => tools.find((tool) => tool.name === name)?.inputSchema.properties ?? {};
  expect(tools.map(({ name }) => name).sort()).toEqual(
    ["execute_ipython_cell", "install_package", "register_mcp_server", "reset"].sort(),
  );
  expect(properties("execute_ipython_cell")).toMatchObject({
    code: { type: "string" },
    timeout: { type: "number", default: 120 },
    max_output_chars: { default: 5000 },
  });
  expect(Object.keys(properties("register_mcp_server"))).toEqual(["server_name", "server_params"]);
  expect(Object.keys(properties("install_package"))).toEqual(["package_name"]);
  for (const { title, annotations } of tools)
    expect(annotations).toEqual({
      title,
      readOnlyHint: false,
      destructiveHint: expect.any(Boolean) as boolean,
      idempotentHint: expect.any(Boolean) as boolean,
      openWorldHint: expect.any(Boolean) as boolean,
    });
});

test.for([
  ["an expression's value", "2+2", "4"],
  ["nothing for no output", "x = 1", ""],
  [
    "stdout and stderr as they arrive",
    "import sys\nfor i in range(3): print(i); print(-i, file=sys.stderr)",
    "0\n0\n1\n-1\n2\n-2",
  ],
  ["the last value", "_ * 2", "8"],
  ["KERNEL_ENV_X as X", "import os; os.environ['X']", "'from outside'"],
  ["a line of 500,000 characters", "print('x' * 500_000)", "x".repeat(500_000)],
  ["50,000 lines", "for i in range(50_000): print('line')", Array.from({ length: 50_000 }, () => "line").join("\n")],
  [
    "slow chunks",
    "import time\nfor i in range(100): print('chunk', i, flush=True); time.sleep(0.005)",
    Array.from({ length: 100 }, (_, i) => `chunk ${i}`).join("\n"),
  ],
  ["a cell of 10,000 lines", `${"n = 1\n".repeat(9_999)}n`, "1"],
  ["no colours of ls", "!ls --color=auto -d /tmp", "/tmp"],
  ["no colours of programs that insist", "!ls --color=always -d /tmp", "/tmp"],
] as const)("a cell shows %s", async ([, code, text], { client }) => {
  if (code.startsWith("_")) await client.cell("4");
  expect(await client.text(code, { max_output_chars: 1_000_000 })).toBe(text);
});

test("an error has its type, message and a traceback without ANSI that shows magics as they were written", async ({
  client,
}) => {
  const failed = textOf(await client.cell("!true\nraise ValueError('the message')"));
  expect(failed).toContain("ValueError");
  expect(failed).toContain("Traceback (most recent call last)");
  expect(failed).toContain("!true");
  expect(failed).toMatch(/ValueError: the message$/);
  expect(failed).not.toContain("get_ipython");
  expect(failed).not.toContain("\u001b");
  expect(textOf(await client.cell("%%bash\nexit 3"))).not.toContain("get_ipython()");
  expect(textOf(await client.cell("input()"))).toContain("StdinNotImplementedError");
});

test("the working directory persists, and the directories of the workspace's root are importable from anywhere", async ({
  client,
}) => {
  for (const name of ["gentools", "mcpparse"]) {
    mkdirSync(join(client.workspace, name));
    writeFileSync(join(client.workspace, name, "__init__.py"), `WHO = "${name}"\n`);
  }
  await client.cell("%cd /tmp");
  expect(await client.text("import os; os.getcwd()")).toBe("'/tmp'");
  expect(await client.text("import gentools, mcpparse; gentools.WHO + mcpparse.WHO")).toBe("'gentoolsmcpparse'");
});

test("an edited module is picked up after reset", async ({ client }) => {
  const path = join(client.workspace, "gentools", "edited.py");
  writeFileSync(path, "VALUE = 1\n");
  expect(await client.text("from gentools.edited import VALUE; VALUE")).toBe("1");
  writeFileSync(path, "VALUE = 22\n");
  await client.call("reset");
  expect(await client.text("from gentools.edited import VALUE; VALUE")).toBe("22");
});

test("images are saved under images/ and listed with links", async ({ client }) => {
  const plot = "import matplotlib.pyplot as plt\nfor i in range(2):\n    plt.plot([i, 2])\n    plt.show()";
  const text = await client.text(plot);
  const paths = [...text.matchAll(/- \[[\w-]+\.png\]\((images\/[\w-]+\.png)\)/g)].map(([, path = ""]) => path);
  expect(text).toMatch(/^Generated images:\n/);
  expect(paths).toHaveLength(2);
  for (const path of paths) expect(readFileSync(join(client.workspace, path)).subarray(1, 4).toString()).toBe("PNG");
});

test("two sessions are isolated", async ({ client, connect }) => {
  await using other = await connect();
  await client.cell("mine = 1");
  expect(await other.text("'mine' in globals()")).toBe("False");
});
