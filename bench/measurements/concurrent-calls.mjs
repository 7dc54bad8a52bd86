import { withWarmSession } from "../session.mjs";
import { registerUpstream } from "../upstream-params.mjs";

/** From threads, since the original has no asynchronous form. */
const CALLS = `
import json, time
from concurrent.futures import ThreadPoolExecutor
from mcptools.bench.echo import Params, run
samples = []
with ThreadPoolExecutor(100) as threads:
    for _ in range(13):
        started = time.perf_counter()
        results = list(threads.map(lambda index: run(Params(text=str(index))), range(100)))
        samples.append((time.perf_counter() - started) * 1000)
        assert results == [str(index) for index in range(100)]
samples = samples[3:]
`;

export const measurement = {
  name: "100 concurrent tool calls, all",
  unit: "ms",
  target: null,
  run: (subject) =>
    withWarmSession(subject, async (session) => {
      await registerUpstream(session);
      return session.samples(CALLS);
    }),
};
