import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";

import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";

import { baseEnvironment, TestDirectory, textOf } from "../helpers/client.ts";
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

const HOSTILE = "\x1b[2Jattack\x1b]0;owned\x07\x9b2J\n2026-01-01T00:00:00Z info  forged\n";

const MAKE_CHATTY_BUILD = String.raw`
import os
os.makedirs("chatty", exist_ok=True)
open("chatty/pyproject.toml", "w").write('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
open("chatty/backend.py", "w").write('''
print("\x1b[2J\x1b]0;owned\x07\x9b2J words of the build")
raise SystemExit(1)
''')
`;

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
  const directory = new TestDirectory();
  let attacked: SessionUnderAttack;
  beforeAll(async () => {
    const config = join(directory.make("config-of-servers"), "servers.json");
    const script = `process.stderr.write(${JSON.stringify(HOSTILE)}); process.exit(1)`;
    const escaping = { command: process.execPath, args: ["-e", script] };
    writeFileSync(config, JSON.stringify({ mcpServers: { escaping } }));
    attacked = await SessionUnderAttack.open({ args: ["--log-level", "debug", "--mcp-config", config] });
  });
  afterAll(async () => {
    await attacked[Symbol.asyncDispose]();
    directory[Symbol.dispose]();
  });

  /** Waits until what was said is in the log, with a word of the attack. */
  const logged = async (message: string) => {
    const lines = () => attacked.client.stderr.split("\n").filter((line) => line.includes(message));
    await expect.poll(lines, { timeout: 20_000 }).not.toEqual([]);
    expect(lines().join("\n")).toContain("attack");
    expect(attacked.client.stderr).not.toMatch(CONTROLS);
    expect(attacked.client.stderr).not.toMatch(/^2026-01-01T00:00:00Z/m);
  };

  test("a server of --mcp-config writes them to its stderr", () => logged("was not registered"));

  test("a cell sends them where the gateway would connect", async () => {
    await attacked.tries(`with socket.socket(socket.AF_UNIX) as stream:
    stream.connect("/run/ipybox/gateway.sock")
    stream.sendall(${JSON.stringify(HOSTILE)}.encode())
    stream.recv(1)`);
    await logged("connection to the gateway socket refused");
  });

  test("a cell makes an env file whose name holds them", async () => {
    await attacked.client.cell(`open(".env." + ${JSON.stringify(HOSTILE)}, "w").write("KEY=1")`);
    await logged("a path that it must not see");
    await attacked.client.cell(`import os; os.unlink(".env." + ${JSON.stringify(HOSTILE)})`);
  });

  test("the answers of tools and cells have none either", async () => {
    const result = await attacked.client.cell(`print("\\x1b[31mred\\x1b]0;owned\\x07"); raise ValueError("\\x1b[2J")`);
    expect(textOf(result)).toContain("ValueError");
    expect(textOf(result)).not.toMatch(CONTROLS);
  });

  test("nor that of a registration which the server refuses in such words", async () => {
    const script = `process.stdin.once("data", () =>
      console.log(JSON.stringify({ jsonrpc: "2.0", id: 0, error: { code: -32603, message: "no \\u001b[2J\\u009b2J\\u0007way" } })));`;
    const params = { command: process.execPath, args: ["-e", script] };
    const result = await attacked.client.register("refusing", params);
    expect(textOf(result)).toContain("way");
    expect(textOf(result)).not.toMatch(CONTROLS);
  });

  test("nor what a package's build prints, as it comes and in the answer", async () => {
    await attacked.client.text(MAKE_CHATTY_BUILD);
    const pieces: string[] = [];
    const result = await attacked.client.call(
      "install_package",
      { package_name: "./chatty" },
      { onProgress: (message) => pieces.push(message) },
    );
    expect(textOf(result)).toContain("words of the build");
    expect(pieces.join("")).toContain("words of the build");
    expect(textOf(result) + pieces.join("")).not.toMatch(CONTROLS);
  });

  test("nor what doctor prints, though a cell put them into the name of an env file", async () => {
    await attacked.client.cell(`open(".env.\\x1b]0;owned\\x07\\nok    engine: forged", "w").write("KEY=1")`);
    const { stdout } = await promisify(execFile)(inject("ipyboxBin"), ["doctor", "--workspace", attacked.workspace], {
      env: baseEnvironment(attacked.directory),
    });
    expect(stdout).toContain("warn  env files");
    expect(stdout).not.toMatch(CONTROLS);
    expect(stdout).not.toMatch(/^ok {4}engine: forged/m);
  });
});
