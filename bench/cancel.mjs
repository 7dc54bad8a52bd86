import { setTimeout } from "node:timers/promises";

import { repeat, withSession } from "./session.mjs";
import { NotThere } from "./subjects.mjs";

/** Long enough to call it never: the cells that are cancelled take longer. */
const GIVE_UP_MS = 20_000;

/** From the client's cancellation of a running cell to the answer of the next. */
export function measureCancel(subject, code, { count }) {
  return withSession(subject, async (session) => {
    await session.cell("1");
    return repeat(count, async () => {
      const cancellation = new AbortController();
      const cancelled = session.cell(code, {}, { signal: cancellation.signal }).catch(() => undefined);
      await setTimeout(3000); // it runs by then, and the spare kernel is ready
      const startedAt = performance.now();
      cancellation.abort();
      await cancelled;
      const next = session.cell("1", {}, { timeout: GIVE_UP_MS });
      await next.catch((error) => {
        throw new NotThere(`no answer within ${GIVE_UP_MS / 1000} s: ${error.message}`);
      });
      return performance.now() - startedAt;
    });
  });
}
