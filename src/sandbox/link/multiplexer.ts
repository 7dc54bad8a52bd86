import { type Readable, type Writable } from "node:stream";
import { messageOf, systemCodeOf } from "../../common/errors.ts";
import { Deferred } from "../../common/lifecycle.ts";
import type { Logger } from "../../common/logger.ts";
import { Channel } from "./channel.ts";
import { encodeFrame, type Frame, FrameDecoder } from "./frames.ts";
import type { Services } from "./services.ts";

/** A pair of streams with the relay of a sandbox (ipybox_sandbox/relay.py) at their other end. */
export interface Carrier {
  /** What the relay sends: hostile. */
  readonly incoming: Readable;
  readonly outgoing: Writable;
}

export interface MultiplexerOptions {
  readonly services: Services;
  readonly logger: Logger;
}

/** More than the relay admits of all services together. */
const MAX_CHANNELS = 512;
const HEARTBEAT_MS = 15_000;
/** After so long without a frame, the sandbox is gone. */
const SILENCE_MS = 60_000;

/**
 * The host's end of an exec link: every connection that the sandbox opens over one carrier goes to its service. A frame
 * that the relay would not send, silence, and the end of either stream end the link and all its connections.
 */
export class Multiplexer implements Disposable {
  readonly #carrier: Carrier;
  readonly #options: MultiplexerOptions;
  readonly #channels = new Map<number, Channel>();
  readonly #ended = new Deferred<undefined>();
  readonly #heartbeat: NodeJS.Timeout;
  #lastConnection = 0;
  #heardAt = performance.now();
  #disposed = false;

  constructor(carrier: Carrier, options: MultiplexerOptions) {
    this.#carrier = carrier;
    this.#options = options;
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS).unref();
    const decoder = new FrameDecoder();
    carrier.incoming.on("data", (chunk: Buffer) => {
      this.#heardAt = performance.now();
      try {
        for (const frame of decoder.decode(chunk)) this.#handle(frame);
      } catch (error) {
        this.#fail(messageOf(error));
      }
      // What is answered must not pile up here. The relay reads whether or not it can write, so this can't lock.
      if (carrier.outgoing.writableNeedDrain) {
        carrier.incoming.pause();
        carrier.outgoing.once("drain", () => carrier.incoming.resume());
      }
    });
    for (const stream of [carrier.incoming, carrier.outgoing]) {
      // A sandbox that has ended reads no more, which its exit tells.
      stream.on("error", (error) =>
        systemCodeOf(error) === "EPIPE" ? this[Symbol.dispose]() : this.#fail(error.message),
      );
      stream.once("close", () => this[Symbol.dispose]());
    }
    carrier.incoming.once("end", () => this[Symbol.dispose]());
  }

  /** Resolves when the link is over. */
  get ended(): Promise<undefined> {
    return this.#ended.promise;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    clearInterval(this.#heartbeat);
    for (const channel of this.#channels.values()) channel.destroy();
    this.#carrier.incoming.destroy();
    this.#carrier.outgoing.destroy();
    this.#ended.resolve(undefined);
  }

  #handle(frame: Frame): void {
    if (this.#disposed || frame.kind === "ping") return;
    if (frame.kind === "open") {
      this.#open(frame);
      return;
    }
    const channel = this.#channels.get(frame.connection);
    if (channel !== undefined) channel.receive(frame);
    else if (frame.connection > this.#lastConnection) throw new Error("a frame of no connection");
    // else it was closed here, while the frame was under way
  }

  #open({ connection, service }: Extract<Frame, { kind: "open" }>): void {
    if (connection <= this.#lastConnection) throw new Error("a connection that was opened before");
    this.#lastConnection = connection;
    const onConnection = this.#options.services[service];
    if (onConnection === undefined || this.#channels.size >= MAX_CHANNELS) {
      this.#send({ kind: "reset", connection });
      return;
    }
    const channel = new Channel({
      connection,
      send: (frame, done) => this.#send(frame, done),
      onClosed: () => this.#channels.delete(connection),
    });
    this.#channels.set(connection, channel);
    onConnection(channel);
  }

  #send(frame: Frame, done?: (error?: Error | null) => void): void {
    if (this.#disposed) done?.(new Error("the link has ended"));
    else this.#carrier.outgoing.write(encodeFrame(frame), done);
  }

  #beat(): void {
    if (performance.now() - this.#heardAt > SILENCE_MS) this.#fail(`nothing heard for ${SILENCE_MS / 1000} s`);
    else this.#send({ kind: "ping" });
  }

  #fail(reason: string): void {
    if (!this.#disposed) this.#options.logger.warn("the link to a sandbox ended", { reason });
    this[Symbol.dispose]();
  }
}
