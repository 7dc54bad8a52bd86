import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { Link } from "../link/link.ts";
import type { EngineNote } from "./engine-note.ts";

export type LinkName = Link["name"];

export interface LinkChoiceOptions {
  readonly setting: LinkName | "auto";
  readonly links: readonly [Link, ...Link[]];
  /** Of the link that worked. */
  readonly note: EngineNote;
  readonly logger: Logger;
}

/** A sandbox did not start, and another link may do better. The cause is what the user is told if none does. */
export class LinkFailure extends Error {
  constructor(cause: unknown) {
    super(messageOf(cause), { cause });
    this.name = "LinkFailure";
  }
}

/** Which link sandboxes of an engine get: the one that is asked for, or the first that works, which is remembered. */
export class LinkChoice {
  readonly #options: LinkChoiceOptions;

  constructor(options: LinkChoiceOptions) {
    this.#options = options;
  }

  /** Starts something over a link, and over the next when it rejects with a {@link LinkFailure}. */
  async start<T>(attempt: (link: Link) => Promise<T>): Promise<T> {
    const { setting, note, logger } = this.#options;
    const remembered = setting === "auto" ? await note.read() : undefined;
    const failures: LinkFailure[] = [];
    for (const link of this.#candidates(remembered)) {
      try {
        const started = await attempt(failingAsSuch(link));
        if (setting === "auto" && link.name !== remembered) await note.write(link.name);
        return started;
      } catch (error) {
        if (!(error instanceof LinkFailure)) throw error;
        logger.info("a sandbox can't be reached over this link", { link: link.name, reason: error.message });
        failures.push(error);
      }
    }
    throw failures[0]?.cause;
  }

  #candidates(remembered: string | undefined): Link[] {
    const { setting, links } = this.#options;
    if (setting !== "auto") return links.filter(({ name }) => name === setting);
    return [...links].sort((a, b) => Number(b.name === remembered) - Number(a.name === remembered));
  }
}

/** One that this host can't even open (Windows has no unix sockets for Node) is no better than one that leads nowhere. */
function failingAsSuch(link: Link): Link {
  const fail = (error: unknown): never => {
    throw new LinkFailure(error);
  };
  return { name: link.name, open: (place, services) => link.open(place, services).catch(fail) };
}
