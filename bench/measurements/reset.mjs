import { setTimeout } from "node:timers/promises";

import { repeat, timed, withSession } from "../session.mjs";

export const measurement = {
  name: "reset",
  unit: "ms",
  target: 50,
  run: (subject) =>
    withSession(subject, async (session) => {
      await session.cell("1");
      return repeat(subject.isOurs ? 15 : 5, async () => {
        await setTimeout(3000); // a pause between calls, in which the spare kernel is made
        const ms = await timed(() => session.call("reset", {}));
        await session.cell("1");
        return ms;
      });
    }),
};
