import { setTimeout } from "node:timers/promises";

import { repeat, timed, withSession } from "../session.mjs";

export const measurement = {
  name: "trivial cell",
  unit: "ms",
  target: { p50: 5, p95: 8 },
  run: (subject) =>
    withSession(subject, async (session) => {
      await repeat(50, () => session.cell("2 + 2"));
      await setTimeout(3000); // until the spare kernel is ready
      return repeat(subject.isOurs ? 1000 : 200, () => timed(() => session.cell("2 + 2")));
    }),
};
