import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { CallToolResultSchema, SUPPORTED_PROTOCOL_VERSIONS } from "@modelcontextprotocol/sdk/types.js";
import { describe, expect } from "vitest";

import { metaOf, type TestClient, textOf } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

describe("a cell", () => {
  test("answers the value of its last expression", async ({ client }) => {
    const result = await client.cell("2+2");
    expect(result.content).toEqual([{ type: "text", text: "4" }]);
    expect(metaOf(result)).toEqual({
      status: "ok",
      durationMs: expect.any(Number) as number,
      executionCount: expect.any(Number) as number,
      truncated: false,
      stateKept: true,
      toolCalls: [],
    });
  });

  test("answers an empty text when there is no output", async ({ client }) => {
    expect((await client.cell("x = 41")).content).toEqual([{ type: "text", text: "" }]);
  });

  test("sees the variables of earlier ones", async ({ client }) => {
    await client.cell("kept = 41");
    expect(await client.text("kept + 1")).toBe("42");
    expect(await client.text("_")).toBe("42");
  });

  test("runs after those that were called before it", async ({ client }) => {
    await client.cell("order = []");
    await Promise.all(Array.from({ length: 20 }, (_, i) => client.cell(`order.append(${i})`)));
    expect(await client.text("order == list(range(20))")).toBe("True");
  });

  test("keeps stdout, stderr and displays in order", async ({ client }) => {
    const code = "import sys\nprint('a', end='')\nprint('b', file=sys.stderr)\ndisplay(1)\nprint('c')\n2";
    expect(await client.text(code)).toBe("ab\n1\nc\n2");
  });

  test("shows what was printed before an exception, then the traceback without ANSI", async ({ client }) => {
    const result = await client.cell("print('before')\n1/0");
    expect(result.isError).toBe(true);
    expect(textOf(result)).toMatch(
      /^before\n-+\nZeroDivisionError[\s\S]*Cell In\[\d+\], line 2[\s\S]*division by zero$/,
    );
    expect(textOf(result)).not.toContain("\u001b");
    expect(metaOf(result).status).toBe("error");
  });

  test("runs shell commands, cell magics, top-level await and %cd", async ({ client }) => {
    expect(await client.text("!echo hi")).toBe("hi");
    expect(await client.text("%%bash\necho $((1 + 1))")).toBe("2");
    expect(await client.text("import asyncio\nawait asyncio.sleep(0, 'awaited')")).toBe("'awaited'");
    await client.cell("%cd /tmp");
    expect(await client.text("import os; os.getcwd()")).toBe("'/tmp'");
    await client.cell(`%cd ${client.workspace}`);
  });

  test("can't ask for input", async ({ client }) => {
    expect(textOf(await client.cell("input('?')"))).toContain("StdinNotImplementedError");
  });

  test("leaves files that belong to the workspace's user", async ({ client }) => {
    await client.cell("open('made.txt', 'w').write('x')");
    const [file, workspace] = [statSync(join(client.workspace, "made.txt")), statSync(client.workspace)];
    expect([file.uid, file.gid, file.mode & 0o777]).toEqual([workspace.uid, workspace.gid, 0o644]);
  });

  test("answers a plot as an image block and a file", async ({ client }) => {
    const result = await client.cell(
      "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()\nprint('drawn')",
    );
    const [, image] = result.content;
    const [, path = ""] = /Generated images:\n- \[[\w-]+\.png\]\((images\/[\w-]+\.png)\)/.exec(textOf(result)) ?? [];
    const file = readFileSync(join(client.workspace, path));
    expect(image).toEqual({ type: "image", mimeType: "image/png", data: file.toString("base64") });
    expect(file.subarray(1, 4).toString()).toBe("PNG");
  });

  test("spills output over its budget into a file that the answer names and links", async ({ client }) => {
    const result = await client.cell("for i in range(5000): print('line', i)", { max_output_chars: 1000 });
    const whole = Array.from({ length: 5000 }, (_, i) => `line ${i}`).join("\n");
    const [, path = ""] =
      /\[Output truncated: 1000 of \d+ characters shown; full output: (\.ipybox\/out\/[\w-]+\.txt)\]$/.exec(
        textOf(result),
      ) ?? [];
    expect(readFileSync(join(client.workspace, path), "utf8")).toBe(whole);
    expect(textOf(result).startsWith("line 0\nline 1\n")).toBe(true);
    expect(textOf(result)).toContain("line 4999\n[Output truncated");
    expect(metaOf(result).truncated).toBe(true);
    const link = result.content.find((block) => block.type === "resource_link");
    const { contents } = await client.client.readResource({ uri: link?.uri ?? "" });
    expect(contents[0]).toMatchObject({ mimeType: "text/plain", text: whole });
  });

  test.for(SUPPORTED_PROTOCOL_VERSIONS)(
    "links its whole output for a client of protocol version %s, if that has links",
    async (protocolVersion, { connect, directory }) => {
      await using client = await connect({ workspace: directory.make(protocolVersion), protocolVersion });
      const { content } = await client.cell("print('abc')", { max_output_chars: 0 });
      const linked = protocolVersion >= "2025-06-18";
      expect(content.map(({ type }) => type)).toEqual(linked ? ["text", "resource_link"] : ["text"]);
    },
  );

  test("streams its output as progress", async ({ client }) => {
    const messages: string[] = [];
    const code = "import time\nfor i in range(3):\n    print('step', i)\n    time.sleep(0.2)";
    await client.cell(code, {}, { onProgress: (message) => messages.push(message) });
    expect(messages.join("")).toBe("step 0\nstep 1\nstep 2\n");
    expect(messages.length).toBeGreaterThan(1);
  });

  test("takes numbers that a client sent as text", async ({ client }) => {
    expect(await client.text("print('x' * 50)", { timeout: "10", max_output_chars: "5" })).toContain(
      "[Output truncated: 5 of 50",
    );
  });
});

describe("a call", () => {
  const raw = (client: TestClient, params: Record<string, unknown>) =>
    client.client.request({ method: "tools/call", params: params as { name: string } }, CallToolResultSchema);

  test.for([
    ["its arguments as JSON text", { name: "execute_ipython_cell", arguments: '{"code":"6 * 7"}' }, "42"],
    ["null for no arguments", { name: "reset", arguments: null }, /^The kernel is new/],
    [
      "a list for arguments",
      { name: "execute_ipython_cell", arguments: ["6 * 7"] },
      /^wrong arguments .*code: is missing/,
    ],
    ["text for arguments", { name: "reset", arguments: "now" }, /^wrong arguments for reset/],
  ] as const)("may have %s, and is no error of the protocol", async ([, params, text], { client }) => {
    expect(textOf(await raw(client, params))).toMatch(text);
  });

  test("may have more code than 10 MB", async ({ client }) => {
    expect(await client.text(`len('''${"x".repeat(11e6)}''')`, { max_output_chars: 100 })).toBe("11000000");
  });
});

describe("a cell that is stopped", () => {
  test("is interrupted at its timeout, with partial output and variables kept", async ({ client }) => {
    await client.cell("before = 1");
    const result = await client.cell("import time\nprint('partial')\ntime.sleep(60)", { timeout: 1 });
    expect(textOf(result)).toBe("partial\n[Timed out after 1 s: the cell was interrupted; variables are kept]");
    expect(metaOf(result)).toMatchObject({ status: "timeout", stateKept: true });
    expect(await client.text("before")).toBe("1");
  });

  test("loses its kernel when it can't be interrupted, and the next cell works", async ({ client }) => {
    const code =
      "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('stubborn')\nwhile True: time.sleep(1)";
    const result = await client.cell(code, { timeout: 1 });
    expect(textOf(result)).toBe("stubborn\n[Timed out after 1 s: the kernel was killed; variables are lost]");
    expect(metaOf(result)).toMatchObject({ status: "timeout", stateKept: false });
    expect(await client.text("1 + 1")).toBe("2");
  });

  test("ends when the client cancels, and the next cell works at once", async ({ client }) => {
    const cancel = new AbortController();
    const cell = client.cell(
      "print('go')\nimport time\ntime.sleep(60)",
      {},
      { signal: cancel.signal, onProgress: () => cancel.abort() },
    );
    await expect(cell).rejects.toThrow();
    const next = await client.cell("'next'");
    expect(textOf(next)).toBe("'next'");
  });

  test.for([
    ["an exit", "import os\nos._exit(3)", "exit code 3"],
    ["a segmentation fault", "import ctypes\nctypes.string_at(0)", "SIGSEGV"],
    ["a kill", "import os\nos.kill(os.getpid(), 9)", "SIGKILL"],
  ] as const)("answers %s of its kernel with the cause and all its output", async ([, code, cause], { client }) => {
    const result = await client.cell(`for i in range(5000): print(i)\nprint('last words', end='')\n${code}`, {
      max_output_chars: 100_000,
    });
    const lines = Array.from({ length: 5000 }, (_, i) => `${i}\n`).join("");
    expect(textOf(result)).toBe(
      `${lines}last words\n[The kernel died (${cause}); a new kernel is running; variables and imports are lost]`,
    );
    expect(metaOf(result)).toMatchObject({ status: "died", stateKept: false });
    expect(await client.text("1 + 1")).toBe("2");
  });
});

test("reset clears variables and background processes, and keeps files", async ({ client }) => {
  await client.cell(
    "gone = 1\nopen('stays.txt', 'w').close()\nimport subprocess\nsubprocess.Popen(['sleep', '1234'], start_new_session=True)",
  );
  const result = await client.call("reset");
  expect(textOf(result)).toMatch(/clear.*kept/);
  expect(textOf(await client.cell("gone"))).toContain("NameError");
  expect(readdirSync(client.workspace)).toContain("stays.txt");
  const running =
    "[p.read_bytes() for p in __import__('pathlib').Path('/proc').glob('[0-9]*/cmdline') if b'1234' in p.read_bytes()]";
  expect(await client.text(running)).toBe("[]");
});
