import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { Link } from "../link/link.ts";

export type LinkName = Link["name"];

export interface LinkChoiceOptions {
  readonly setting: LinkName | "auto";
  readonly links: readonly [Link, ...Link[]];
  /** What decides whether a link works: the engine's address, and whatever else. */
  readonly key: string;
  readonly stateDir: string;
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
  readonly #path: string;

  constructor(options: LinkChoiceOptions) {
    this.#options = options;
    const name = createHash("sha256").update(options.key).digest("hex").slice(0, 16);
    this.#path = join(options.stateDir, "links", name);
  }

  /** Starts something over a link, and over the next when it rejects with a {@link LinkFailure}. */
  async start<T>(attempt: (link: Link) => Promise<T>): Promise<T> {
    const { logger } = this.#options;
    const remembered = await this.#recall();
    const failures: LinkFailure[] = [];
    for (const link of this.#candidates(remembered)) {
      try {
        const started = await attempt(link);
        if (this.#options.setting === "auto" && link.name !== remembered) await this.#remember(link.name);
        return started;
      } catch (error) {
        if (!(error instanceof LinkFailure)) throw error;
        logger.info("a sandbox can't be reached over this link", { link: link.name, reason: error.message });
        failures.push(error);
      }
    }
    throw failures[0]?.cause;
  }

  #candidates(remembered: LinkName | undefined): Link[] {
    const { setting, links } = this.#options;
    if (setting !== "auto") return links.filter(({ name }) => name === setting);
    return [...links].sort((a, b) => Number(b.name === remembered) - Number(a.name === remembered));
  }

  async #recall(): Promise<LinkName | undefined> {
    if (this.#options.setting !== "auto") return undefined;
    const text = await readFile(this.#path, "utf8").catch(() => "");
    return this.#options.links.find(({ name }) => name === text.trim())?.name;
  }

  async #remember(name: LinkName): Promise<void> {
    const { stateDir, logger } = this.#options;
    try {
      await mkdir(join(stateDir, "links"), { recursive: true, mode: 0o700 });
      const temporary = `${this.#path}.${randomBytes(4).toString("hex")}`;
      await writeFile(temporary, `${name}\n`, { mode: 0o600 });
      await rename(temporary, this.#path);
    } catch (error) {
      logger.warn("which link works can't be remembered", { error });
    }
  }
}
