import { repeat, withSession } from "../session.mjs";

export const measurement = {
  name: "spawn → initialize",
  unit: "ms",
  target: 250,
  async run(subject) {
    const once = async () => {
      const startedAt = performance.now();
      return withSession(subject, () => performance.now() - startedAt);
    };
    await once(); // files into the page cache
    return repeat(subject.isOurs ? 15 : 3, once);
  },
};
