import { Duplex } from "node:stream";
import { type Frame, MAX_PAYLOAD_BYTES } from "./frames.ts";

/** Bytes of a connection that may be under way to a side that has not taken them; the relay counts alike. */
export const WINDOW_BYTES = 256 * 1024;
/** Waiting pieces smaller than this are joined: a window of single bytes would cost a hundred times its size. */
const SMALL_BYTES = 16 * 1024;

export interface ChannelOptions {
  readonly connection: number;
  /** Calls back when the carrier has taken the frame. */
  readonly send: (frame: Frame, done?: (error?: Error | null) => void) => void;
  readonly onClosed: () => void;
}

/**
 * One connection of an exec link, like a socket that the sandbox connected: it ends its own half when the other ends.
 * Neither side sends more than the other has room for, so a reader or writer that is slow costs one window of memory.
 */
export class Channel extends Duplex {
  readonly #options: ChannelOptions;
  /** What the sandbox sent and nobody has asked for yet. */
  readonly #incoming: Buffer[] = [];
  #wanted = false;
  #incomingEnded = false;
  #granted = WINDOW_BYTES;
  #taken = 0;
  #credit = WINDOW_BYTES;
  #outgoingEnded = false;
  #onCredit: (() => void) | undefined;
  #reset = false;

  constructor(options: ChannelOptions) {
    // What nobody asked for stays in #incoming, where it is counted and joined.
    super({ allowHalfOpen: false, readableHighWaterMark: 1 });
    this.#options = options;
    this.on("error", () => undefined); // as a socket's: whoever uses it hears `close`
  }

  /** Takes a frame of the sandbox; throws when the sandbox may not send it. */
  receive(frame: Exclude<Frame, { kind: "open" | "ping" }>): void {
    switch (frame.kind) {
      case "data":
        this.#granted -= frame.payload.length;
        if (this.#granted < 0 || this.#incomingEnded) throw new Error("more data than granted");
        this.#queue(frame.payload);
        this.#deliver();
        return;
      case "end":
        if (this.#incomingEnded) throw new Error("a second end");
        this.#incomingEnded = true;
        this.#deliver();
        return;
      case "credit":
        this.#credit += frame.bytes;
        if (this.#credit > WINDOW_BYTES) throw new Error("more credit than the window");
        this.#onCredit?.();
        return;
      case "reset":
        this.#reset = true;
        this.destroy();
        return;
    }
  }

  override _read(): void {
    this.#wanted = true;
    this.#deliver();
  }

  override _write(chunk: Buffer, encoding: string, done: (error?: Error | null) => void): void {
    this.#onCredit = undefined;
    let rest = chunk;
    while (this.#credit > 0) {
      const payload = rest.subarray(0, Math.min(this.#credit, MAX_PAYLOAD_BYTES));
      rest = rest.subarray(payload.length);
      this.#credit -= payload.length;
      const frame = { kind: "data", connection: this.#options.connection, payload } as const;
      if (rest.length === 0) {
        this.#options.send(frame, done);
        return;
      }
      this.#options.send(frame);
    }
    this.#onCredit = () => this._write(rest, encoding, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#outgoingEnded = true;
    this.#options.send({ kind: "end", connection: this.#options.connection });
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const closed = this.#reset || (this.#incomingEnded && this.#outgoingEnded);
    if (!closed) this.#options.send({ kind: "reset", connection: this.#options.connection });
    this.#options.onClosed();
    done(error);
  }

  /** A copy, where others could keep alive the chunk of the carrier that they are a small part of. */
  #queue(payload: Buffer): void {
    if (this.#wanted) {
      this.#incoming.push(payload);
      return;
    }
    const last = this.#incoming.at(-1);
    const joins = last !== undefined && last.length < SMALL_BYTES;
    this.#incoming.push(Buffer.concat(joins ? [this.#incoming.pop() ?? last, payload] : [payload]));
  }

  #deliver(): void {
    while (this.#wanted) {
      const chunk = this.#incoming.shift();
      if (chunk === undefined) break;
      this.#taken += chunk.length;
      this.#wanted = this.push(chunk);
    }
    if (this.#incomingEnded) {
      if (this.#incoming.length === 0) this.push(null);
    } else if (this.#taken >= WINDOW_BYTES / 4) {
      this.#options.send({ kind: "credit", connection: this.#options.connection, bytes: this.#taken });
      this.#granted += this.#taken;
      this.#taken = 0;
    }
  }
}
