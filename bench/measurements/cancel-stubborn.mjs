import { measureCancel } from "../cancel.mjs";

export const measurement = {
  name: "cancel → next cell's answer, cell ignores interrupts",
  unit: "ms",
  target: 3000,
  run: (subject) =>
    measureCancel(subject, "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", {
      count: 3,
    }),
};
