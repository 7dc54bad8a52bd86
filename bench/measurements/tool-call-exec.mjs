import { overExecLink } from "../subjects.mjs";
import { measurement as overSocket } from "./tool-call.mjs";

/** At most 3 ms more than over the socket link. */
export const measurement = overExecLink(overSocket, 3.6);
