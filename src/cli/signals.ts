import { IpyboxError } from "../common/errors.ts";

/** Aborts at SIGINT or SIGTERM; a second one ends the process as usual. */
export function interruptSignal(): AbortSignal {
  const interrupt = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => interrupt.abort(new IpyboxError("tool-cancelled", `stopped by ${name}`)));
  }
  return interrupt.signal;
}
