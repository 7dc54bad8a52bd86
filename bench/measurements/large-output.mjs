import { repeat, timed, withWarmSession } from "../session.mjs";
import { NotThere } from "../subjects.mjs";

const LINES = 50_000;
const LINE_CHARS = 100;

export const measurement = {
  name: "5 MB printed",
  unit: "ms",
  target: 150,
  run: (subject) =>
    withWarmSession(subject, async (session) => {
      const code = `print(("x" * ${LINE_CHARS - 1} + "\\n") * ${LINES}, end="")`;
      const print = () =>
        timed(async () => {
          const text = await session.cell(code, { max_output_chars: LINES * LINE_CHARS });
          if (text.length < LINES * LINE_CHARS - 1) {
            throw new NotThere(
              `${(LINES * LINE_CHARS).toLocaleString("en")} characters printed, ${text.length} arrived`,
            );
          }
        });
      await repeat(subject.isOurs ? 5 : 1, print); // both sides compile their ways of large texts
      return repeat(subject.isOurs ? 20 : 3, print);
    }),
};
