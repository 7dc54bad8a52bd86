import { setTimeout } from "node:timers/promises";

import { repeat, withSession } from "../session.mjs";
import { registerUpstream } from "../upstream-params.mjs";

const IMPORT = `
import json, time, pydantic
started = time.perf_counter()
from mcptools.bench.search_0 import Params, run
samples = [(time.perf_counter() - started) * 1000]
`;

export const measurement = {
  name: "first generated import, beyond pydantic",
  unit: "ms",
  target: 60,
  run: (subject) =>
    withSession(subject, async (session) => {
      await registerUpstream(session, 1);
      return (
        await repeat(subject.isOurs ? 10 : 4, async () => {
          await session.call("reset", {});
          await setTimeout(1000);
          return session.samples(IMPORT);
        })
      ).flat();
    }),
};
