import { Duplex } from "node:stream";

/** Two streams, each of which reads what the other wrote, like the ends of a socket. Ending one ends the other. */
export function duplexPair(): [Duplex, Duplex] {
  const one: End = new End(() => other);
  const other: End = new End(() => one);
  return [one, other];
}

class End extends Duplex {
  readonly #other: () => End;
  #onRead: (() => void) | undefined;

  constructor(other: () => End) {
    super({ allowHalfOpen: false });
    this.#other = other;
  }

  override _read(): void {
    const onRead = this.#onRead;
    this.#onRead = undefined;
    onRead?.();
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    const other = this.#other();
    if (other.destroyed || other.push(chunk)) {
      done();
      return;
    }
    other.#onRead = done;
  }

  override _final(done: () => void): void {
    const other = this.#other();
    if (!other.destroyed) other.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const other = this.#other();
    if (!other.destroyed) queueMicrotask(() => other.destroy());
    done(error);
  }
}
