import { repeat, timed, withSession } from "../session.mjs";

export const measurement = {
  name: "reset without a spare kernel",
  unit: "ms",
  target: 900,
  run: (subject) =>
    withSession(subject, async (session) => {
      await session.cell("1");
      await session.call("reset", {});
      // One after the other: the spare is gone.
      return repeat(subject.isOurs ? 15 : 5, () => timed(() => session.call("reset", {})));
    }),
};
