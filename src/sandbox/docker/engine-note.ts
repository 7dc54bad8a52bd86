import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Logger } from "../../common/logger.ts";

export interface EngineNoteOptions {
  readonly stateDir: string;
  /** Of one kind there is a note for each key: the engine's address, and whatever else it depends on. */
  readonly kind: "links" | "empty-files";
  readonly key: string;
  readonly logger: Logger;
}

/** A word about an engine that this host remembers between starts. Losing it costs time, nothing else. */
export class EngineNote {
  readonly #path: string;
  readonly #logger: Logger;

  constructor({ stateDir, kind, key, logger }: EngineNoteOptions) {
    this.#path = join(stateDir, kind, createHash("sha256").update(key).digest("hex").slice(0, 16));
    this.#logger = logger;
  }

  /** Undefined where there is none. */
  async read(): Promise<string | undefined> {
    const text = await readFile(this.#path, "utf8").catch(() => undefined);
    return text?.trim();
  }

  /** Other servers see the old note or the new one. */
  async write(text: string): Promise<void> {
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      const temporary = `${this.#path}.${randomBytes(4).toString("hex")}`;
      await writeFile(temporary, `${text}\n`, { mode: 0o600 });
      await rename(temporary, this.#path);
    } catch (error) {
      this.#logger.warn("what was found out about the engine can't be remembered", { error });
    }
  }
}
