import { IpyboxError } from "../common/errors.ts";

/** Aborts at SIGINT or SIGTERM, a second one ends the process as usual; and when nobody reads our output any more. */
export function interruptSignal(): AbortSignal {
  const interrupt = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.once(name, () => interrupt.abort(new IpyboxError("tool-cancelled", `stopped by ${name}`)));
  }
  process.stdout.once("error", () =>
    interrupt.abort(new IpyboxError("tool-cancelled", "stopped: its output is closed")),
  );
  return interrupt.signal;
}
