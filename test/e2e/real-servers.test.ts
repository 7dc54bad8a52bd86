import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { ElicitRequest, ElicitResult } from "@modelcontextprotocol/sdk/types.js";
import { describe, expect } from "vitest";

import { metaOf, type TestDirectory, textOf, upstream } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";
import { pythonUpstream, pythonWithSdk } from "../helpers/python-servers.ts";

const MANY_TALENTS = join(import.meta.dirname, "../integration/broker/servers/many-talents.mjs");
const NUMBERS = `from mcp.server.fastmcp import FastMCP
server = FastMCP("numbers")
@server.tool()
def successor(number: int) -> int: return number + 1
server.run()`;
const cancelledFile = (directory: TestDirectory) => join(directory.path, "cancelled");
const questions: string[] = [];
test.override("options", ({ directory }) => {
  const workspace = directory.make("workspace");
  const repository = join(workspace, "repository");
  mkdirSync(repository);
  execFileSync("git", ["init", "--quiet", "--initial-branch=trunk", repository]);
  writeFileSync(join(workspace, "notes.txt"), "first\nsecond\nthird\n");
  const elicit = ({ message }: ElicitRequest["params"]): ElicitResult => {
    questions.push(message);
    return { action: "accept", content: { name: "Ada", check: true } };
  };
  return { workspace, elicit };
});
test.beforeAll(async ({ client, directory }) => {
  const servers = {
    everything: upstream("everything"),
    filesystem: upstream("filesystem", client.workspace),
    memory: { ...upstream("memory"), env: { MEMORY_FILE_PATH: join(directory.path, "memory.jsonl") } },
    thinking: upstream("sequential-thinking"),
    git: pythonUpstream("git"),
    time: pythonUpstream("time"),
    sqlite: pythonUpstream("sqlite", "--db-path", join(directory.path, "test.db")),
    numbers: { command: pythonWithSdk("1.x"), args: ["-c", NUMBERS] },
    talents: { command: process.execPath, args: [MANY_TALENTS], env: { CANCELLED_FILE: cancelledFile(directory) } },
  };
  for (const [name, params] of Object.entries(servers)) await client.modules(name, params);
});

describe("text", () => {
  test("of git, about a repository in the workspace", async ({ client }) => {
    const code = `from mcptools.git import git_status
r = git_status.run(git_status.Params(repo_path="${client.workspace}/repository"))
print(type(r).__mro__[1].__name__, r)`;
    expect(await client.text(code)).toMatch(/^str Repository status:\nOn branch trunk/);
  });

  test("of sqlite, whose tables a cell makes and reads", async ({ client }) => {
    const code = `from mcptools.sqlite import create_table, write_query, read_query
create_table.run(create_table.Params(query="CREATE TABLE t (n INTEGER)"))
write_query.run(write_query.Params(query="INSERT INTO t VALUES (6), (7)"))
print(read_query.run(read_query.Params(query="SELECT sum(n) AS total FROM t")))`;
    expect(await client.text(code)).toBe("[{'total': 13}]");
  });

  test("with half a surrogate pair gets an answer of a server in Python, whose parser would refuse the message", async ({
    client,
  }) => {
    const code = `from mcptools.time import get_current_time as tool
try: tool.run(tool.Params(timezone="Etc/\\ud800"))
except Exception as error: print(error)`;
    expect(await client.text(code, { timeout: 20 })).toContain("Etc/\ufffd");
  });

  test("arrives literally in both directions: a placeholder in an argument is no placeholder", async ({ client }) => {
    const code =
      'from mcptools.everything import echo\nprint(echo.run(echo.Params(message="${HOME} ${WORKSPACE} é 😀 \\0")).encode())';
    expect(await client.text(code)).toBe("b'Echo: ${HOME} ${WORKSPACE} \\xc3\\xa9 \\xf0\\x9f\\x98\\x80 \\x00'");
  });
});

describe("structured content", () => {
  test("of a server in Python keeps integers that a double can't hold, in both directions", async ({ client }) => {
    const code = `from mcptools.numbers.successor import Params, run
[run(Params(number=n)).result - n for n in (1, 2**53, -(2**63), 2**64, 10**400)]`;
    expect(await client.text(code)).toBe("[1, 1, 1, 1, 1]");
  });

  test("of filesystem is a Result", async ({ client }) => {
    const code = `from mcptools.filesystem.read_text_file import Params, Result, run
r = run(Params(path="${client.workspace}/notes.txt", head=2))
isinstance(r, Result), r.content`;
    expect(await client.text(code)).toBe("(True, 'first\\nsecond')");
  });

  test("of memory goes there and back under names that are Python keywords", async ({ client, directory }) => {
    const code = `from mcptools.memory import create_entities, create_relations, read_graph
create_entities.run(create_entities.Params(entities=[{"name": n, "entityType": "t", "observations": []} for n in "ab"]))
created = create_relations.run(create_relations.Params(relations=[{"from": "a", "to": "b", "relationType": "knows"}]))
graph = read_graph.run(read_graph.Params())
[(r.from_, r.to, r.relationType) for r in graph.relations], [e.name for e in graph.entities]`;
    expect(await client.text(code)).toBe("([('a', 'b', 'knows')], ['a', 'b'])");
    expect(readFileSync(join(directory.path, "memory.jsonl"), "utf8")).toContain('"from":"a"');
  });

  test("of time and of sequential thinking", async ({ client }) => {
    const code = `from mcptools.time import convert_time
from mcptools.thinking import sequentialthinking as think
c = convert_time.run(convert_time.Params(source_timezone="Etc/UTC", time="12:00", target_timezone="Asia/Tokyo"))
t = think.run(think.Params(thought="x", nextThoughtNeeded=False, thoughtNumber=1, totalThoughts=1))
c.time_difference, c.target.datetime[11:16], t.thoughtNumber`;
    expect(await client.text(code)).toBe("('+9.0h', '21:00', 1.0)");
  });
});

describe("content that is no text", () => {
  test("a picture shows itself as the value of a cell", async ({ client }) => {
    const result = await client.cell("from mcptools.everything.get_tiny_image import Params, run\nrun(Params())");
    expect(result.content.map(({ type }) => type)).toContain("image");
    expect(textOf(result)).toContain("Generated images:");
  });

  test("is there as typed blocks", async ({ client }) => {
    const code = `from mcptools.everything import get_tiny_image, get_resource_links, get_resource_reference
image = [b for b in get_tiny_image.run(get_tiny_image.Params()).content if b.type == "image"][0]
links = [b for b in get_resource_links.run(get_resource_links.Params(count=2)).content if b.type == "resource_link"]
resource = [b for b in get_resource_reference.run(get_resource_reference.Params(resourceType="Text", resourceId=1)).content
            if b.type == "resource"][0]
image.data[:4], image.mime_type, len(links), links[0].uri[:5], "Resource 1" in resource.text`;
    expect(await client.text(code)).toBe("(b'\\x89PNG', 'image/png', 2, 'demo:', True)");
  });

  test("a megabyte of text arrives whole", async ({ client }) => {
    const code = "from mcptools.talents import big\nlen(big.run(big.Params(bytes=1_000_000)))";
    expect(await client.text(code)).toBe("1000000");
  });
});

describe("a call that fails", () => {
  test("raises the server's own words", async ({ client }) => {
    const code = `from mcptools.filesystem.read_text_file import Params, run
from ipybox_sandbox.toolapi import ToolError
try: run(Params(path="/etc/hostname"))
except ToolError as error: print(type(error).__name__, error.server, error.tool, error)`;
    expect(await client.text(code)).toMatch(/^ToolError filesystem read_text_file .*Access denied - path outside/);
  });

  test("because of wrong arguments sends nothing", async ({ client }) => {
    const code = "from mcptools.time.get_current_time import Params, run\nrun(Params(timezone='Etc/UTC', zone=1))";
    const result = await client.cell(code);
    expect(textOf(result)).toMatch(/ValidationError[^]*zone\n +Extra inputs are not permitted/);
    expect(metaOf(result).toolCalls).toEqual([]);
  });

  test.for([
    ["blocks", "wait.run(wait.Params())"],
    ["is awaited", "await wait.arun(wait.Params())"],
    ["blocks a thread", "import asyncio\nawait asyncio.to_thread(wait.run, wait.Params())"],
  ] as const)(
    "that %s is cancelled at the server when its cell is stopped",
    async ([, call], { client, directory }) => {
      const result = await client.cell(`from mcptools.talents import wait\n${call}`, { timeout: 1 });
      expect(metaOf(result)).toMatchObject({ status: "timeout", stateKept: true });
      expect(metaOf(result).toolCalls).toMatchObject([{ server: "talents", tool: "wait", status: "cancelled" }]);
      await expect.poll(() => existsSync(cancelledFile(directory))).toBe(true);
      rmSync(cancelledFile(directory));
    },
  );

  test("because its server is killed in the middle says so, and the next call has a new server", async ({ client }) => {
    const before = await client.text("from mcptools.talents import pids\nprint(pids.run(pids.Params()))");
    const { pid } = JSON.parse(before) as { pid: number };
    const code = `from ipybox_sandbox.toolapi import UpstreamUnavailableError
try: wait.run(wait.Params())
except UpstreamUnavailableError as error: print(error)`;
    const underWay = (text: string) => text.startsWith("talents.wait");
    const result = await client.cell(code, {}, { onProgress: (text) => underWay(text) && process.kill(pid) });
    expect(textOf(result)).toMatch(/The MCP server talents broke off during the call: it ended with SIGTERM/);
    const after = JSON.parse(await client.text("print(pids.run(pids.Params()))")) as { pid: number };
    expect(after.pid).not.toBe(pid);
  });
});

test("progress of a tool reaches the client that runs the cell", async ({ client }) => {
  const messages: string[] = [];
  const code =
    "from mcptools.everything import trigger_long_running_operation as long\nprint(long.run(long.Params(duration=1, steps=4)))";
  const text = textOf(await client.cell(code, {}, { onProgress: (message) => messages.push(message) }));
  expect(text).toContain("completed");
  expect(messages.join("\n")).toContain("everything.trigger-long-running-operation: 2/4");
});

test("a question of a server reaches the user, under the server's name, and the answer goes back", async ({
  client,
}) => {
  const code = "from mcptools.everything import trigger_elicitation_request as ask\nprint(ask.run(ask.Params()))";
  expect(await client.text(code)).toContain("Ada");
  expect(questions).toEqual([expect.stringMatching(/^The MCP server everything asks: /)]);
});

describe("many calls at once", () => {
  test("with asyncio, more than the bridge admits", async ({ client }) => {
    const code = `import asyncio
from mcptools.everything import get_sum
results = await asyncio.gather(*(get_sum.arun(get_sum.Params(a=n, b=1)) for n in range(150)))
[int(r.rstrip(".").split()[-1]) for r in results] == list(range(1, 151))`;
    const result = await client.cell(code);
    expect(textOf(result)).toBe("True");
    expect(metaOf(result).toolCalls).toHaveLength(150);
  });

  test("in threads, to several servers", async ({ client }) => {
    const code = `from concurrent.futures import ThreadPoolExecutor
from mcptools.everything import echo
from mcptools.time import get_current_time
def both(n):
    now = get_current_time.run(get_current_time.Params(timezone="Etc/UTC"))
    return echo.run(echo.Params(message=str(n))), now.timezone
with ThreadPoolExecutor(100) as pool:
    results = list(pool.map(both, range(100)))
results == [(f"Echo: {n}", "Etc/UTC") for n in range(100)]`;
    expect(await client.text(code)).toBe("True");
  });
});
