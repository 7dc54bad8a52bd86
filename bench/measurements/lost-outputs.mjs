import { withSession } from "../session.mjs";

const CELLS = 10_000;
/** 10,000 cells of the original take a quarter of an hour. */
const CELLS_OF_THE_PEER = 1_000;

export const measurement = {
  name: "cells without their output, of 10,000",
  unit: "",
  target: 0,
  run: (subject) =>
    withSession(subject, async (session) => {
      const cells = subject.isOurs ? CELLS : CELLS_OF_THE_PEER;
      let lost = 0;
      for (let index = 0; index < cells; index += 1) {
        const text = await session.cell(index % 2 === 0 ? `print(${index})` : `${index}`);
        if (text.trim() !== `${index}`) lost += 1;
      }
      if (cells === CELLS) return [lost];
      return {
        samples: [(lost * CELLS) / cells],
        note: `${lost} of ${cells.toLocaleString("en")} cells, extrapolated`,
      };
    }),
};
