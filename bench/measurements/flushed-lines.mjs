import { repeat, timed, withWarmSession } from "../session.mjs";
import { NotThere } from "../subjects.mjs";

const LINES = 50_000;

export const measurement = {
  name: "50,000 separately flushed lines",
  unit: "ms",
  target: 2000,
  run: (subject) =>
    withWarmSession(subject, async (session) =>
      repeat(subject.isOurs ? 5 : 2, () =>
        timed(async () => {
          const code = `for line in range(${LINES}): print(line, flush=True)`;
          const text = await session.cell(code, { max_output_chars: 10_000_000 });
          const arrived = text.split("\n").filter((line, index) => line === `${index}`).length;
          if (arrived !== LINES) throw new NotThere(`${arrived.toLocaleString("en")} of 50,000 lines arrived in order`);
        }),
      ),
    ),
};
