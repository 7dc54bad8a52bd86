import { repeat, timed, withWarmSession } from "../session.mjs";

export const measurement = {
  name: "trivial cell",
  unit: "ms",
  target: { p50: 5, p95: 8 },
  run: (subject) =>
    withWarmSession(subject, (session) =>
      repeat(subject.isOurs ? 1000 : 200, () => timed(() => session.cell("2 + 2"))),
    ),
};
