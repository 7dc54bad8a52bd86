import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

import { repeat, timed, withWarmSession } from "../session.mjs";
import { summarize } from "../statistics.mjs";
import { registerUpstream, upstream } from "../upstream-params.mjs";

const CALLS = `
import json, time
from mcptools.bench.echo import Params, run
def measure(count):
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        run(Params(text="hello"))
        samples.append((time.perf_counter() - started) * 1000)
    return samples
measure(1000)
samples = measure(1000)
`;

export const measurement = {
  name: "tool call from a cell",
  unit: "ms",
  target: 0.6,
  run: (subject) =>
    withWarmSession(subject, async (session) => {
      await registerUpstream(session);
      const samples = await session.samples(CALLS);
      if (!subject.isOurs) return samples;
      const direct = summarize(await callDirectly());
      return { samples, note: `the MCP server's own answer, called directly: ${direct.p50} ms (p95 ${direct.p95} ms)` };
    }),
};

/** The same calls by the SDK's client, without anything between. */
async function callDirectly() {
  const client = new Client({ name: "bench", version: "1.0.0" });
  await client.connect(new StdioClientTransport({ ...upstream(), stderr: "ignore" }));
  const call = () => client.callTool({ name: "echo", arguments: { text: "hello" } });
  try {
    await repeat(1000, call);
    return await repeat(1000, () => timed(call));
  } finally {
    await client.close();
  }
}
