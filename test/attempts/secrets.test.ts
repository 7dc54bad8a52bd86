import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { SessionUnderAttack, docker } from "./session-under-attack.ts";

const SECRET = "s3cr3t/of the+upstream=1234567890";
const KERNEL_VALUE = "value-for-the-kernel-alone-123";
const ENCODED = [
  SECRET,
  encodeURIComponent(SECRET),
  Buffer.from(SECRET).toString("base64"),
  Buffer.from(`user:${SECRET}`).toString("base64"),
];
const CHATTY_SERVER = join(import.meta.dirname, "servers/chatty.mjs");

let attacked: SessionUnderAttack;
let registered: string;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({
    args: ["--log-level", "debug"],
    env: { API_KEY_OF_TEST: SECRET, KERNEL_ENV_FOR_KERNEL: KERNEL_VALUE },
  });
  registered = JSON.stringify(
    await attacked.client.call("register_mcp_server", {
      server_name: "chatty",
      server_params: { command: process.execPath, args: [CHATTY_SERVER], env: { KEY: "${API_KEY_OF_TEST}" } },
    }),
  );
});
afterAll(() => attacked[Symbol.asyncDispose]());

const expectNoSecret = (text: string) => {
  for (const form of ENCODED) expect(text).not.toContain(form);
};
const calls = (tool: string) =>
  attacked.client.cell(`from mcptools.chatty import ${tool}
${tool}.run(${tool}.Params())`);

describe("a resolved secret that an upstream says is in no", () => {
  test("answer of the registration", () => {
    expectNoSecret(registered);
  });

  test.for(["result", "encoded", "structured", "failure", "crash"])("result of its tool %s", async (tool) => {
    const result = JSON.stringify(await calls(tool));
    expectNoSecret(result);
    expect(result).toContain(tool === "crash" ? "" : "${API_KEY_OF_TEST}");
  });

  test("generated code", () => {
    expect(sourceOf(attacked.workspace).join("\n")).toContain("class Params");
    expectNoSecret(sourceOf(attacked.workspace).join("\n"));
  });

  test("log of the server", () => {
    expectNoSecret(attacked.client.stderr);
  });

  test("error of a registration that fails", async () => {
    const failing = {
      command: process.execPath,
      args: ["-e", "console.error(process.env.KEY); process.exit(1)"],
      env: { KEY: "${API_KEY_OF_TEST}" },
    };
    const result = await attacked.client.call("register_mcp_server", {
      server_name: "failing",
      server_params: failing,
    });
    expect(result.isError).toBe(true);
    expectNoSecret(JSON.stringify(result));
    const http = { url: "http://127.0.0.1:1/mcp", headers: { Authorization: "Bearer ${API_KEY_OF_TEST}" }, timeout: 5 };
    expectNoSecret(
      JSON.stringify(await attacked.client.call("register_mcp_server", { server_name: "http", server_params: http })),
    );
  });
});

describe("secrets are not in", () => {
  test("the state directory, which keeps placeholders", () => {
    const state = filesBelow(join(attacked.directory.path, "state"))
      .map((path) => readFileSync(path, "utf8"))
      .join("\n");
    expect(state).toContain("${API_KEY_OF_TEST}");
    expectNoSecret(state);
    expect(state).not.toContain(KERNEL_VALUE);
  });

  test("what docker inspect says of the container, and docker history of its image", async () => {
    const container = JSON.stringify(await docker.getContainer(attacked.containerId).inspect());
    const image: unknown = await docker.getImage(attacked.image).history();
    for (const text of [
      container,
      JSON.stringify(image),
      JSON.stringify(await docker.getImage(attacked.image).inspect()),
    ]) {
      expectNoSecret(text);
      expect(text).not.toContain(KERNEL_VALUE);
    }
  });

  test("the command line of any process", () => {
    const lines = execFileSync("ps", ["-eo", "args", "-ww"], { encoding: "utf8" });
    expectNoSecret(lines);
    expect(lines).not.toContain(KERNEL_VALUE);
  });

  test("anything that a cell can read, its memory included", async () => {
    const code = `import re
found = []
for line in open("/proc/self/maps"):
    bounds, mode = line.split()[:2]
    if "r" not in mode or "[v" in line: continue
    start, end = (int(part, 16) for part in bounds.split("-"))
    try: block = ctypes.string_at(start, end - start)
    except (OSError, MemoryError): continue
    found += [bounds] if re.search(rb"[u]pstream=1234567890", block) else []
found`;
    expect(await attacked.tries(code)).toBe("succeeded: []");
    expect(
      await attacked.tries(
        `[path for path in glob.glob("/proc/[0-9]*/environ") if os.access(path, os.R_OK) and b"upstream=1234" in open(path, "rb").read()]`,
      ),
    ).toBe("succeeded: []");
  });

  test("the environment of a kernel, but for what was meant for it", async () => {
    expect(await attacked.tries(`os.environ["FOR_KERNEL"]`)).toBe(`succeeded: '${KERNEL_VALUE}'`);
    expect(
      await attacked.tries(`[name for name, value in os.environ.items() if "upstream" in value or "KEY" in name]`),
    ).toBe("succeeded: []");
  });
});

describe("a cell can't name", () => {
  const asks = (params: string, method = "tools/call") => `import json
with socket.socket(socket.AF_UNIX) as bridge:
    bridge.settimeout(10)
    bridge.connect("/run/ipybox/tools.sock")
    bridge.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "${method}", "params": ${params}}).encode() + b"\\n")
    answer = json.loads(bridge.makefile().readline())
if "error" in answer: raise ValueError(answer["error"]["message"])
answer["result"]`;

  test.for([
    ["a server that is not registered", `{"server": "other", "tool": "x", "arguments": {}}`],
    ["a tool that is not listed", `{"server": "chatty", "tool": "__proto__", "arguments": {}}`],
    [
      "a command",
      `{"server": "chatty", "tool": "result", "arguments": {}, "server_params": {"command": "id"}, "command": "id"}`,
    ],
    ["a placeholder, to have it resolved", `{"server": "\${API_KEY_OF_TEST}", "tool": "x", "arguments": {}}`],
  ] as const)("%s", async ([, params]) => {
    const said = await attacked.tries(asks(params));
    expectNoSecret(said);
    expect(said).toMatch(/^refused: ValueError|content/);
    expect(said).not.toContain("uid=");
  });

  test("a method of the host's", async () => {
    for (const method of ["servers/register", "env/get", "initialize", "resources/read", "constructor"]) {
      expect(await attacked.tries(asks("{}", method))).toMatch(/^refused: ValueError/);
    }
  });

  test("a placeholder in arguments, to have it resolved", async () => {
    const said = await attacked.tries(
      asks(`{"server": "chatty", "tool": "echo", "arguments": {"text": "\${API_KEY_OF_TEST}"}}`),
    );
    expectNoSecret(said);
  });
});

function sourceOf(workspace: string): string[] {
  return filesBelow(join(workspace, "mcptools"))
    .filter((path) => path.endsWith(".py"))
    .map((path) => readFileSync(path, "utf8"));
}

/** But not behind links: tests share the environments of engines without containers by one. */
function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => join(directory, name))
    .filter((path) => realpathSync(path).startsWith(realpathSync(directory)) && statSync(path).isFile());
}
