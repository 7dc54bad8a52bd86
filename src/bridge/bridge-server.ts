import type { Duplex } from "node:stream";
import type { Logger } from "../common/logger.ts";
import { BridgeConnection, type BridgeHandlers, type CallGate } from "./bridge-connection.ts";
import { encodeError } from "./framing.ts";
import { BridgeError } from "./protocol.ts";

export type { BridgeHandlers, CallToolResultLike, ToolCall } from "./bridge-connection.ts";

const MAX_CONNECTIONS = 64;
const MAX_CALLS_IN_FLIGHT = 64;
/** Of all connections together: half-received frames, calls being answered, and answers that nobody reads. */
const MAX_BYTES = 128 * 1024 * 1024;

export interface BridgeServerOptions {
  readonly handlers: BridgeHandlers;
  readonly logger: Logger;
}

/**
 * Answers the calls of kernel code. Everything on its connections is hostile: frames, calls, connections and memory
 * are bounded for the server as a whole, and whatever exceeds a bound gets an error, never silence.
 */
export class BridgeServer implements AsyncDisposable, CallGate {
  readonly #options: BridgeServerOptions;
  readonly #connections = new Set<BridgeConnection>();
  #callsInFlight = 0;
  #callBytesInFlight = 0;
  #disposed = false;

  constructor(options: BridgeServerOptions) {
    this.#options = options;
  }

  /** Serves a connection until it ends; its calls are aborted then. The stream belongs to the server from here on. */
  accept(stream: Duplex): void {
    stream.on("error", () => undefined); // "close" follows, and is all that matters
    if (this.#disposed || this.#connections.size >= MAX_CONNECTIONS) {
      refuse(stream, `The bridge admits ${MAX_CONNECTIONS} connections at a time`);
      return;
    }
    const connection = new BridgeConnection(stream, this, this.#options.handlers, this.#options.logger);
    this.#connections.add(connection);
    stream.once("close", () => {
      this.#connections.delete(connection);
      connection.close();
    });
  }

  /** @internal Part of {@link CallGate}. */
  enter(sizeBytes: number): void {
    if (this.#callsInFlight >= MAX_CALLS_IN_FLIGHT) {
      throw new BridgeError("limit", `More than ${MAX_CALLS_IN_FLIGHT} calls are in flight`);
    }
    // A single call is admitted whatever its size: a frame's own limit bounds it.
    if (this.#callsInFlight > 0 && this.#callBytesInFlight + sizeBytes > MAX_BYTES) {
      throw new BridgeError("limit", `The arguments of the calls in flight exceed ${MAX_BYTES} bytes`);
    }
    this.#callsInFlight += 1;
    this.#callBytesInFlight += sizeBytes;
  }

  /** @internal Part of {@link CallGate}. */
  leave(sizeBytes: number): void {
    this.#callsInFlight -= 1;
    this.#callBytesInFlight -= sizeBytes;
  }

  /** @internal Part of {@link CallGate}. */
  mayHold(moreBytes: number): boolean {
    let held = moreBytes;
    for (const connection of this.#connections) held += connection.heldBytes;
    return held <= MAX_BYTES;
  }

  /** Aborts every call and closes every connection. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
    return Promise.resolve();
  }
}

function refuse(stream: Duplex, why: string): void {
  stream.resume();
  stream.end(encodeError(null, new BridgeError("limit", why)), () => stream.destroy());
}
