import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { metaOf, textOf, upstream } from "../helpers/client.ts";
import { containersOf, docker, SessionUnderAttack } from "./session-under-attack.ts";

const HOST_SECRET = "value-of-the-host-0123456789";
let attacked: SessionUnderAttack;
let other: SessionUnderAttack;
let marker: string;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({ env: { HOST_KEY: HOST_SECRET } });
  other = await SessionUnderAttack.open();
  marker = join(attacked.directory.path, "made-on-the-host");
  await register(attacked, "everything", upstream("everything"));
  await register(attacked, "memory", upstream("memory"));
  await register(other, "elsewhere", upstream("everything"));
});
afterAll(async () => {
  await attacked[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
});
beforeEach(async () => {
  await attacked.client.text(PRELUDE);
});

async function register(session: SessionUnderAttack, server_name: string, server_params: unknown): Promise<void> {
  const result = await session.client.call("register_mcp_server", { server_name, server_params });
  if (result.isError === true) throw new Error(textOf(result));
}

const PRELUDE = `
import json, socket

def opened():
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect("/run/ipybox/tools.sock")
    return connection

def frame(message):
    return json.dumps(message).encode() + b"\\n"

def call(server, tool, id=1, **more):
    arguments = {"message": "hi"}
    return frame({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                  "params": {"server": server, "tool": tool, "arguments": arguments, **more}})

def asked(*frames, answers=1):
    """The first answers to raw frames over one connection."""
    with opened() as connection:
        for each in frames:
            connection.sendall(each)
        lines = connection.makefile("rb")
        return [json.loads(lines.readline() or b"null") for _ in range(answers)]

def kind(answer):
    return answer["error"]["data"]["kind"]

HONEST = call("everything", "echo", id="honest")

def is_honest(answer):
    return answer["id"] == "honest" and answer["result"]["content"][0]["text"] == "Echo: hi"
`;

/** What the last expression of `code` is, as JSON. */
async function value(code: string): Promise<unknown> {
  const [, last = ""] = /([^\n]*)\n*$/.exec(code) ?? [];
  return JSON.parse(await attacked.client.text(`${code.slice(0, code.lastIndexOf(last))}print(json.dumps(${last}))`));
}

/** The program that serves `attacked`, in MB. */
function residentMegabytes(): number {
  const status = readFileSync(`/proc/${String(attacked.client.transport.pid)}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}

async function expectHonestCallsToWork(): Promise<void> {
  const result = await attacked.client.cell(
    "from mcptools.everything import echo\nprint(echo.run(echo.Params(message='still')))",
  );
  expect(textOf(result)).toBe("Echo: still");
  expect(metaOf(result).toolCalls).toMatchObject([{ server: "everything", tool: "echo", status: "done" }]);
}

describe("the bridge has no way to name", () => {
  test.for([
    ["a command", `server_params={"command": "touch", "args": [MARKER]}, command="touch", args=[MARKER]`],
    ["a URL", `server_params={"url": "http://127.0.0.1:9/"}, url="http://127.0.0.1:9/"`],
    ["an environment variable", `env={"PATH": "/tmp"}, server_params={"env": {"A": "\${HOST_KEY}"}}`],
  ])("%s, beside a server that is not registered or one that is", async ([, more]) => {
    const code = `MARKER = ${JSON.stringify(marker)}\nanswers = asked(call("planted", "t", ${more}), call("everything", "echo", id="honest", ${more}), answers=2)
[kind(a) if "error" in a else is_honest(a) for a in answers]`;
    expect(await value(code)).toEqual(expect.arrayContaining(["not-found", true]));
    expect(existsSync(marker)).toBe(false);
  });

  test.for([
    "servers/register",
    "register",
    "initialize",
    "tools/list",
    "resources/read",
    "sampling/createMessage",
    "run",
  ])("a method %s", async (method) => {
    const params = { command: "touch", args: [marker], server: "everything", server_params: { command: "touch" } };
    const code = `asked(frame({"jsonrpc": "2.0", "id": 7, "method": "${method}", "params": json.loads(${JSON.stringify(JSON.stringify(params))})}))[0]["error"]["code"]`;
    expect(await value(code)).toBe(-32601);
    expect(existsSync(marker)).toBe(false);
  });

  test.for([
    ["a server that is not registered", "sh", "echo"],
    ["a path for a server", "../everything", "echo"],
    ["a tool that the server does not list", "everything", "trigger-sampling-request"],
    ["a tool of another server", "memory", "echo"],
    ["a server of another session", "elsewhere", "echo"],
    ["a property of objects", "__proto__", "constructor"],
    ["a property of objects as a tool", "everything", "__proto__"],
  ] as const)("%s", async ([, server, tool]) => {
    expect(await value(`kind(asked(call("${server}", "${tool}"))[0])`)).toBe("not-found");
  });

  test("a variable of the host: a placeholder in an argument arrives literally", async () => {
    const code = `from mcptools.everything import echo
print(echo.run(echo.Params(message="\${HOST_KEY} \${WORKSPACE} $HOST_KEY")))`;
    expect(await attacked.client.text(code)).toBe("Echo: ${HOST_KEY} ${WORKSPACE} $HOST_KEY");
  });

  test("the spare kernel's calls: nobody gets into the place that it will dial, and no connection outlives a reset", async () => {
    const path = "/run/ipybox/tools.sock";
    for (const way of [
      `os.unlink("${path}")`,
      `os.rename("${path}", "${path}.2")`,
      `os.rename("/run/ipybox", "/run/ipybox2")`,
      `socket.socket(socket.AF_UNIX).bind("${path}")`,
      `os.symlink("/tmp/mine.sock", "${path}")`,
      `os.link("${path}", "/tmp/mine.sock")`,
    ]) {
      expect(await attacked.tries(way), way).toMatch(/^refused: OSError|^refused: (PermissionError|FileExistsError)/);
    }
    const waiting = `import subprocess, sys
code = "import socket, time; s = socket.socket(socket.AF_UNIX); s.connect('${path}'); print('dialled', flush=True); time.sleep(1000)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
_ = child.stdout.readline()`;
    await attacked.client.text(waiting);
    await attacked.client.call("reset");
    expect(await attacked.client.text("import subprocess; print(subprocess.getoutput('ps ax').count('dialled'))")).toBe(
      "0",
    );
    await expectHonestCallsToWork();
  });

  test("another session's socket", async () => {
    const [container] = await containersOf(other.workspace);
    const { Mounts } = await docker.getContainer(container?.Id ?? "").inspect();
    const foreign = Mounts.find(({ Destination }) => Destination === "/run/ipybox")?.Source ?? "";
    expect(existsSync(join(foreign, "tools.sock"))).toBe(true);
    expect(await attacked.tries(`connected(${JSON.stringify(join(foreign, "tools.sock"))}, socket.AF_UNIX)`)).toMatch(
      /^refused: FileNotFoundError/,
    );
    expect(await attacked.tries("os.listdir('/run/ipybox')")).toMatch(/^refused: PermissionError/);
  });
});

describe("the bridge survives", () => {
  test.for([
    ["no JSON", String.raw`b"{nonsense}\n" + b"\x00\xff\xfe\n" + b"\n" * 1000`],
    ["JSON that is no message", String.raw`b'[]\n3\nnull\n"x"\n{}\n[{"id":1,"method":"tools/call"}]\n{"id":1}\n'`],
    [
      "wrong types everywhere",
      String.raw`b'{"id":{},"method":[],"params":3}\n{"id":1,"method":"tools/call","params":{"server":[],"tool":{},"arguments":3}}\n'`,
    ],
    [
      "answers to what was never asked",
      `b"".join(frame({"jsonrpc": "2.0", "id": n, "result": {"content": []}}) for n in range(1000))`,
    ],
    [
      "cancellations of what was never asked",
      `b"".join(frame({"jsonrpc": "2.0", "method": "cancelled", "params": {"id": n}}) for n in range(1000))`,
    ],
    ["a million brackets", String.raw`b"[" * 1_000_000 + b"\n"`],
    [
      "arguments nested a million deep",
      String.raw`call("everything", "echo").replace(b'"hi"', b"[" * 1_000_000 + b"]" * 1_000_000)`,
    ],
  ])("%s", async ([, frames]) => {
    const code = `with opened() as connection:
    connection.sendall(${frames} + HONEST)
    lines = connection.makefile("rb")
    answer = json.loads(lines.readline())
    while answer.get("id") != "honest":
        answer = json.loads(lines.readline())
is_honest(answer)`;
    expect(await value(code)).toBe(true);
    await expectHonestCallsToWork();
  });

  test("a frame of 17 MB: an error for that call, and the connection stays", async () => {
    const code = `huge = call("everything", "echo").replace(b"hi", b"x" * 17_000_000)
first, second = asked(huge, HONEST, answers=2)
[first["id"], kind(first), is_honest(second)]`;
    expect(await value(code)).toEqual([1, "limit", true]);
    await expectHonestCallsToWork();
  });

  test("a frame that never ends", async () => {
    const before = residentMegabytes();
    const code = `with opened() as connection:
    for _ in range(600):
        connection.sendall(b"x" * 1_000_000)
    connection.sendall(b"\\n" + HONEST)
    lines = connection.makefile("rb")
    answers = [json.loads(lines.readline()), json.loads(lines.readline())]
[kind(answers[0]), is_honest(answers[1])]`;
    expect(await value(code)).toEqual(["limit", true]);
    expect(residentMegabytes() - before).toBeLessThan(256);
    await expectHonestCallsToWork();
  });

  test("unfinished frames on every connection at once", async () => {
    const before = residentMegabytes();
    const code = `connections = [opened() for _ in range(60)]
for connection in connections:
    connection.sendall(b"x" * 12_000_000)
for connection in connections:
    connection.close()
True`;
    expect(await value(code)).toBe(true);
    expect(residentMegabytes() - before).toBeLessThan(512);
    await expectHonestCallsToWork();
  });

  test("answers that nobody reads", async () => {
    const before = residentMegabytes();
    const code = `big = call("everything", "echo").replace(b"hi", b"x" * 8_000_000)
connections = [opened() for _ in range(40)]
sent = 0
for connection in connections:
    connection.settimeout(3)
    try:
        for _ in range(4):
            connection.sendall(big)
            sent += 1
    except OSError:
        pass
for connection in connections:
    connection.close()
sent >= 40`;
    expect(await value(code)).toBe(true);
    expect(residentMegabytes() - before).toBeLessThan(768);
    await expectHonestCallsToWork();
  });

  test("10,000 connections: those over the limit are told so", async () => {
    const code = `kept, refused = [], 0
for _ in range(10_000):
    connection = opened()
    kept.append(connection)
    if len(kept) > 200:
        answer = kept[-1].makefile("rb").readline()
        refused += kind(json.loads(answer)) == "limit"
        kept.pop().close()
for connection in kept:
    connection.close()
refused`;
    expect(await value(code)).toBe(9_800);
    await expectHonestCallsToWork();
  });

  test("more calls at once than it admits: an error for each of the rest", async () => {
    const slow = `b"".join(frame({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"server": "everything",
    "tool": "trigger-long-running-operation", "arguments": {"duration": 2, "steps": 1}}}) for n in range(100))`;
    const code = `answers = asked(${slow}, answers=100)
[sum("result" in a for a in answers), sum("error" in a and kind(a) == "limit" for a in answers)]`;
    expect(await value(code)).toEqual([64, 36]);
    await expectHonestCallsToWork();
  });

  test("more calls at once than it admits, from several processes of a kernel: answers or errors, and no hang", async () => {
    const slow = `import asyncio, collections, json, sys
from mcptools.everything import trigger_long_running_operation as tool
async def main():
    calls = (tool.arun(tool.Params(duration=1, steps=1)) for _ in range(50))
    results = await asyncio.gather(*calls, return_exceptions=True)
    print(json.dumps(collections.Counter("limit" if "are in flight" in str(r) else type(r).__name__ for r in results)))
asyncio.run(main())`;
    const code = `import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", ${JSON.stringify(slow)}], stdout=subprocess.PIPE) for _ in range(2)]
counts = [json.loads(child.communicate()[0]) for child in children]
[sum(c.get("ToolText", 0) for c in counts) >= 64, sum(c.get("ToolText", 0) + c.get("limit", 0) for c in counts)]`;
    expect(await value(code)).toEqual([true, 100]);
    await expectHonestCallsToWork();
  });
});
