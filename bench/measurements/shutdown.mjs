import { repeat, withSession } from "../session.mjs";

/** From the end of stdin to the end of the process, which for ours is after the end of its container. */
export const measurement = {
  name: "shutdown",
  unit: "ms",
  target: 1000,
  run: (subject) =>
    repeat(subject.isOurs ? 10 : 3, async () => {
      const stoppedAt = await withSession(subject, async (session) => {
        await session.cell("1 + 1");
        return performance.now();
      });
      return performance.now() - stoppedAt;
    }),
};
