import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { pythonUpstream } from "../../helpers/python-servers.ts";
import { BrokerHarness, inPackage, register } from "./broker-harness.ts";

const CORPUS = join(import.meta.dirname, "../../corpus");

const npm = (name: string) => ({
  command: "node",
  args: [inPackage(`@modelcontextprotocol/server-${name}/dist/index.js`)],
});

const SERVERS = {
  everything: npm("everything"),
  filesystem: { ...npm("filesystem"), args: [...npm("filesystem").args, "/tmp"] },
  memory: npm("memory"),
  sequential_thinking: npm("sequential-thinking"),
  brave_search_original: { ...npm("brave-search"), env: { BRAVE_API_KEY: "dummy" } },
  git: pythonUpstream("git"),
  time: pythonUpstream("time", "--local-timezone", "Etc/UTC"),
  sqlite: pythonUpstream("sqlite", "--db-path", ":memory:"),
};

interface RecordedTool {
  readonly name: string;
  readonly description?: string;
  readonly inputSchema: unknown;
  readonly outputSchema?: unknown;
}

test.for(Object.entries(SERVERS))("the corpus holds what %s really lists", async ([name, params]) => {
  await using harness = new BrokerHarness();
  const { tools } = await register(await harness.open(), name, params);
  const recorded = JSON.parse(readFileSync(join(CORPUS, `${name}.json`), "utf8")) as { tools: unknown[] };
  expect(tools.map(asRecorded)).toEqual(recorded.tools);
});

function asRecorded({ name, description, inputSchema, outputSchema }: RecordedTool): unknown {
  return JSON.parse(JSON.stringify({ name, description, inputSchema, outputSchema }));
}
