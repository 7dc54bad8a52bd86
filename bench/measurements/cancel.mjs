import { measureCancel } from "../cancel.mjs";

export const measurement = {
  name: "cancel → next cell's answer",
  unit: "ms",
  target: 300,
  run: (subject) => measureCancel(subject, "import time; time.sleep(60)", { count: 10 }),
};
