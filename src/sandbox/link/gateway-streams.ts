import type { Duplex } from "node:stream";
import { IpyboxError } from "../../common/errors.ts";

/** The gateway keeps two streams idle; more than this is not our gateway. */
const MAX_IDLE = 16;

interface Taker {
  readonly take: (stream: Duplex) => void;
  readonly refuse: (reason: Error) => void;
}

/** The idle streams that the gateway dialled, each handed out once, and those who wait for one. */
export class GatewayStreams implements Disposable {
  readonly #idle = new Set<Duplex>();
  readonly #takers = new Set<Taker>();
  #gone = false;

  /** A stream whose other end serves HTTP: goes to whoever waits, else is kept. */
  add(stream: Duplex): void {
    const [taker] = this.#takers;
    if (taker) {
      this.#takers.delete(taker);
      taker.take(stream);
      return;
    }
    if (this.#gone || this.#idle.size >= MAX_IDLE) return void stream.destroy();
    this.#idle.add(stream);
    stream.once("close", () => this.#idle.delete(stream));
  }

  /** Rejects with the signal's reason, or with `sandbox-gone` once disposed. */
  async take(options: { readonly signal: AbortSignal }): Promise<Duplex> {
    options.signal.throwIfAborted();
    for (const stream of this.#idle) {
      this.#idle.delete(stream);
      if (!stream.destroyed && stream.readable && stream.writable) return stream;
    }
    if (this.#gone) throw sandboxGone();
    return await this.#next(options.signal);
  }

  [Symbol.dispose](): void {
    this.#gone = true;
    for (const stream of this.#idle) stream.destroy();
    for (const taker of this.#takers) taker.refuse(sandboxGone());
    this.#idle.clear();
    this.#takers.clear();
  }

  #next(signal: AbortSignal): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#takers.delete(taker);
        reject(signal.reason as Error); // whatever the caller aborted with is what the caller gets
      };
      const taker: Taker = {
        take: (stream) => {
          signal.removeEventListener("abort", onAbort);
          resolve(stream);
        },
        refuse: (reason) => {
          signal.removeEventListener("abort", onAbort);
          reject(reason);
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#takers.add(taker);
    });
  }
}

function sandboxGone(): IpyboxError {
  return new IpyboxError("sandbox-gone", "The sandbox has ended", {
    hint: "Call again: the next call gets a new one.",
  });
}
