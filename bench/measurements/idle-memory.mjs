import { setTimeout } from "node:timers/promises";

import { proportionalMemory } from "../memory.mjs";
import { repeat, withSession } from "../session.mjs";

export const measurement = {
  name: "idle memory, PSS of all processes",
  unit: "MB",
  target: 200,
  async run(subject) {
    const parts = [];
    const samples = await repeat(3, () =>
      withSession(subject, async (session) => {
        await session.cell("1 + 1");
        await setTimeout(10_000); // spare kernel and generator are ready, garbage is collected
        const processes = proportionalMemory(session);
        parts.push(processes);
        return processes.reduce((sum, { megabytes }) => sum + megabytes, 0);
      }),
    );
    return {
      samples,
      note: parts
        .at(-1)
        .map(({ name, megabytes }) => `${name} ${megabytes.toFixed(0)}`)
        .join(", "),
    };
  },
};
