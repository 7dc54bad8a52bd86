import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";

import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";

import { baseEnvironment, TestDirectory } from "../helpers/client.ts";
import { SessionUnderAttack } from "./session-under-attack.ts";

/** What a terminal acts on: all controls but tab, newline and carriage return, in both sets. */
// eslint-disable-next-line no-control-regex -- controls are what is looked for
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/;
const ESCAPES = [
  ["clears the screen", "\\x1b[2J"],
  ["sets the title", "\\x1b]0;owned\\x07"],
  ["writes the clipboard", "\\x1b]52;c;b3duZWQ=\\x1b\\\\"],
  ["links elsewhere", "\\x1b]8;;http://evil.example\\x1b\\\\text\\x1b]8;;\\x1b\\\\"],
  ["asks the terminal to answer", "\\x1b[6n\\x1b[c\\x05"],
  ["uses the 8-bit forms", "\\x9b2J\\x9d0;owned\\x9c"],
  ["sends device control", '\\x1bP$q\\"p\\x1b\\\\\\x90x\\x9c'],
  ["backspaces over what was said", "safe\\b\\b\\b\\bevil"],
] as const;

describe("ipybox run writes no control sequence to the terminal, though the cell", () => {
  const directory = new TestDirectory();
  afterAll(() => directory[Symbol.dispose]());
  let written = "";
  beforeAll(async () => {
    const child = spawn(inject("ipyboxBin"), ["run", "-"], {
      env: baseEnvironment(directory),
      cwd: directory.make("run"),
      stdio: ["pipe", "pipe", "pipe"],
    });
    child.stdin.end(`import sys, os
for n, escape in enumerate([${ESCAPES.map(([, escape]) => `"${escape}"`).join(", ")}]):
    print(n, escape)
    print(escape, file=sys.stderr)
print("\\x1b", end="", flush=True); print("[31mcut in two")
os.system("printf '\\\\033[2J'")
print("end")
raise ValueError("\\x1b]0;owned\\x07")`);
    const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
    written = output + errors;
  });

  test.for(ESCAPES)("%s", () => {
    expect(written).toContain("end");
    expect(written).toContain("ValueError");
    expect(written).not.toMatch(CONTROLS);
  });
});

describe("the log has no control sequence and no line of its own, though", () => {
  let attacked: SessionUnderAttack;
  beforeAll(async () => {
    attacked = await SessionUnderAttack.open({ args: ["--log-level", "debug"] });
  });
  afterAll(() => attacked[Symbol.asyncDispose]());

  test("an upstream writes them to its stderr", async () => {
    const script = `process.stderr.write("\\x1b[2J\\x1b]0;owned\\x07 fake\\n2026-01-01T00:00:00Z info  forged\\n"); process.exit(1)`;
    await attacked.client.call("register_mcp_server", {
      server_name: "escapes",
      server_params: { command: process.execPath, args: ["-e", script] },
    });
    expect(attacked.client.stderr).not.toMatch(CONTROLS);
    expect(attacked.client.stderr).not.toMatch(/^2026-01-01T00:00:00Z/m);
  });

  test("a cell names them in what the host logs", async () => {
    await attacked.tries(`import json
with socket.socket(socket.AF_UNIX) as bridge:
    bridge.connect("/run/ipybox/tools.sock")
    bridge.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"server": "\\x1b[2J", "tool": "\\x1b]0;x\\x07\\nforged", "arguments": {}}}).encode() + b"\\n")
    bridge.makefile().readline()`);
    await attacked.client.cell(`%pip install "\x1b[2J"`);
    expect(attacked.client.stderr).not.toMatch(CONTROLS);
    expect(attacked.client.stderr).not.toMatch(/^forged/m);
  });

  test("the answers of tools and cells have none either", async () => {
    const result = await attacked.client.cell(`print("\\x1b[31mred\\x1b]0;owned\\x07"); raise ValueError("\\x1b[2J")`);
    const [block] = result.content;
    expect(block?.type === "text" ? block.text : "").not.toMatch(CONTROLS);
  });
});
