import { lstatSync } from "node:fs";
import { setImmediate, setTimeout as delay } from "node:timers/promises";

/**
 * Directories that no watch can be had for. They are looked at one after the other instead, round and round while that
 * is asked for: an entry that is made, removed or renamed changes its directory's time.
 */
export class DirectorySweep implements Disposable {
  readonly #onChange: (directory: string) => Promise<void>;
  /** The time that each had before its entries were read; NaN is equal to none. */
  readonly #known = new Map<string, number>();
  #wanted = false;
  #goesRound = false;

  /** `onChange` looks closely at a directory, in which something may have changed. */
  constructor(onChange: (directory: string) => Promise<void>) {
    this.#onChange = onChange;
  }

  /** Call it before the directory's entries are read. */
  add(path: string): void {
    this.#known.set(path, timeOf(path) ?? NaN);
    this.#wake();
  }

  /** Looks at all of them once: what had changed before the call has been looked at closely when it resolves. */
  async look(): Promise<void> {
    if (this.#known.size > 0) await this.#round(() => setImmediate());
  }

  /** Goes on looking from here on, with rests: for a quarter of the time. Keeps no process alive. */
  start(): void {
    this.#wanted = true;
    this.#wake();
  }

  stop(): void {
    this.#wanted = false;
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#known.clear();
  }

  #wake(): void {
    if (!this.#wanted || this.#known.size === 0 || this.#goesRound) return;
    this.#goesRound = true;
    void this.#goRound().finally(() => {
      this.#goesRound = false;
      this.#wake(); // it may have been wanted again just now
    });
  }

  async #goRound(): Promise<void> {
    const rest = (workedMs: number) => delay(workedMs * RESTS, undefined, { ref: false });
    while (this.#wanted && this.#known.size > 0) {
      await this.#round(rest, () => this.#wanted);
      await rest(TURN_MS);
    }
  }

  async #round(rest: (workedMs: number) => Promise<unknown>, goesOn = () => true): Promise<void> {
    let startedAt = performance.now();
    for (const [path, known] of this.#known) {
      const time = timeOf(path);
      if (time === undefined) this.#known.delete(path);
      else if (time !== known) {
        this.#known.set(path, time);
        await this.#onChange(path);
      }
      const workedMs = performance.now() - startedAt;
      if (workedMs < TURN_MS) continue;
      await rest(workedMs);
      if (!goesOn()) return;
      startedAt = performance.now();
    }
  }
}

/**
 * When the entries of a directory changed last, which nobody can set; undefined where there is none. NaN where that was
 * just now: clocks of file systems tick, and the next change may come within the same tick. Whoever puts a link on the
 * way tells the time of something else, and no more.
 */
function timeOf(path: string): number | undefined {
  try {
    const info = lstatSync(path);
    if (!info.isDirectory()) return undefined;
    return Date.now() - info.ctimeMs < TICK_MS ? NaN : info.ctimeMs;
  } catch {
    return undefined;
  }
}

const TURN_MS = 10;
const RESTS = 3;
/** Linux ticks every 10 ms at the slowest. */
const TICK_MS = 50;
