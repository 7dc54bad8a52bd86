import { overExecLink } from "../subjects.mjs";
import { measurement as overSocket } from "./tool-call.mjs";

/** At most 3 ms more than over the socket link. */
export const measurement = {
  ...overSocket,
  name: "tool call from a cell, exec link",
  target: 3.6,
  run: (subject) => overSocket.run(overExecLink(subject)),
};
