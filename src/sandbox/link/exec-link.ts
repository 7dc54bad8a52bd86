import type { Link } from "./link.ts";
import { Multiplexer } from "./multiplexer.ts";

/** For every engine: all connections share init's stdin and stdout, which the engine carries. */
export const execLink: Link = {
  name: "exec",
  open: ({ logger }, services) => {
    let multiplexer: Multiplexer | undefined;
    return Promise.resolve({
      crossing: { type: "exec" },
      carry: (carrier) => {
        multiplexer = new Multiplexer(carrier, { services, logger });
      },
      [Symbol.asyncDispose]: () => {
        multiplexer?.[Symbol.dispose]();
        return Promise.resolve();
      },
    });
  },
};
