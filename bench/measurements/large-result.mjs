import { withWarmSession } from "../session.mjs";
import { registerUpstream } from "../upstream-params.mjs";

const CALLS = `
import json, time
from mcptools.bench.large import Params, run
samples = []
for _ in range(25):
    started = time.perf_counter()
    assert len(run(Params(bytes=2**20))) == 2**20
    samples.append((time.perf_counter() - started) * 1000)
samples = samples[5:]
`;

export const measurement = {
  name: "tool call with a result of 1 MB",
  unit: "ms",
  target: null,
  run: (subject) =>
    withWarmSession(subject, async (session) => {
      await registerUpstream(session);
      return session.samples(CALLS);
    }),
};
