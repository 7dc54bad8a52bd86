import type { Logger } from "../../common/logger.ts";
import { Multiplexer } from "../link/multiplexer.ts";
import type { RunRoot } from "../link/run-directory.ts";
import type { Services } from "../link/services.ts";
import type { Link, OpenLink } from "./link.ts";

/** For every engine: all connections share init's stdin and stdout, which the engine carries. */
export class ExecLink implements Link {
  readonly name = "exec";
  readonly #runRoot: RunRoot;
  readonly #logger: Logger;

  constructor(runRoot: RunRoot, logger: Logger) {
    this.#runRoot = runRoot;
    this.#logger = logger;
  }

  async open(id: string, services: Services): Promise<OpenLink> {
    await this.#runRoot.guard();
    const options = { services, logger: this.#logger.child({ sandbox: id }) };
    let multiplexer: Multiplexer | undefined;
    return {
      crossing: { type: "exec" },
      carry: (carrier) => {
        multiplexer = new Multiplexer(carrier, options);
      },
      [Symbol.asyncDispose]: () => {
        multiplexer?.[Symbol.dispose]();
        return Promise.resolve();
      },
    };
  }
}
