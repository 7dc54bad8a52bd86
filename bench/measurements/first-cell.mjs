import { repeat, withSession } from "../session.mjs";

export const measurement = {
  name: "spawn → first cell's answer",
  unit: "ms",
  target: 1300,
  async run(subject) {
    const once = () => {
      const startedAt = performance.now();
      return withSession(subject, async (session) => {
        await session.cell("1 + 1");
        return performance.now() - startedAt;
      });
    };
    await once(); // files into the page cache
    return repeat(subject.isOurs ? 10 : 3, once);
  },
};
