import { overExecLink } from "../subjects.mjs";
import { measurement as overSocket } from "./trivial-cell.mjs";

/** At most 3 ms more than over the socket link. */
export const measurement = overExecLink(overSocket, { p50: 8, p95: 11 });
