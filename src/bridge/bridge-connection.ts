import type { Duplex } from "node:stream";
import { messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { encodeError, encodeResult, type Frame, FrameReader } from "./framing.ts";
import {
  BridgeError,
  cancelledParams,
  type ErrorKind,
  incomingMessage,
  installParams,
  protocolErrors,
  type RequestId,
  toolCallParams,
  toWireError,
} from "./protocol.ts";

export interface ToolCall {
  readonly server: string;
  readonly tool: string;
  readonly arguments: Record<string, unknown>;
}

/** MCP's CallToolResult of a call that succeeded. */
export interface CallToolResultLike {
  readonly content: readonly unknown[];
  readonly structuredContent?: unknown;
  readonly _meta?: unknown;
}

/** Whoever answers. Rejections with an `IpyboxError` reach the caller with a kind; any other is logged as a bug. */
export interface BridgeHandlers {
  callTool(call: ToolCall, options: { readonly signal: AbortSignal }): Promise<CallToolResultLike>;
  /** Resolves to the installer's words. */
  installPackage(requirement: string, options: { readonly signal: AbortSignal }): Promise<string>;
}

/** What bounds all connections together. */
export interface CallGate {
  /** Counts a call in, or throws the BridgeError that refuses it. */
  enter(sizeBytes: number): void;
  leave(sizeBytes: number): void;
  /** Whether so many bytes more may wait in buffers. */
  mayHold(moreBytes: number): boolean;
}

/** A frame this large is not held before the gate was asked. */
const UNASKED_BYTES = 256 * 1024;

/** One connection of kernel code: frames in, answers out, in whatever order the calls end. */
export class BridgeConnection {
  readonly #stream: Duplex;
  readonly #gate: CallGate;
  readonly #handlers: BridgeHandlers;
  readonly #logger: Logger;
  readonly #reader = new FrameReader();
  readonly #calls = new Map<RequestId, AbortController>();

  constructor(stream: Duplex, gate: CallGate, handlers: BridgeHandlers, logger: Logger) {
    this.#stream = stream;
    this.#gate = gate;
    this.#handlers = handlers;
    this.#logger = logger;
    stream.on("data", (chunk: Buffer) => this.#onData(chunk));
    stream.on("drain", () => stream.resume());
    // An ended input is a client that is gone, or as good as: nothing could be cancelled any more.
    stream.once("end", () => this.close());
  }

  /** Bytes in buffers of this connection. */
  get heldBytes(): number {
    return this.#reader.heldBytes + this.#stream.writableLength;
  }

  /** Aborts the calls of this connection and closes it. Twice is the same as once. */
  close(): void {
    for (const call of this.#calls.values()) call.abort();
    this.#calls.clear();
    this.#stream.destroy();
  }

  #onData(chunk: Buffer): void {
    for (const frame of this.#reader.push(chunk)) this.#onFrame(frame);
    if (this.#reader.heldBytes > UNASKED_BYTES && !this.#gate.mayHold(0)) this.#reader.discardPending();
  }

  #onFrame(frame: Frame): void {
    if (frame.kind === "malformed") {
      this.#send(encodeError(frame.id, frame.error));
      return;
    }
    if (isResponse(frame.message)) return; // we ask nothing, so it answers nothing
    const message = incomingMessage.safeParse(frame.message);
    if (!message.success) {
      this.#send(encodeError(null, protocolErrors.malformed()));
    } else if (message.data.id !== undefined) {
      void this.#answer(message.data.id, message.data.method, message.data.params, frame.sizeBytes);
    } else if (message.data.method === "cancelled") {
      const cancelled = cancelledParams.safeParse(message.data.params);
      if (cancelled.success) this.#calls.get(cancelled.data.id)?.abort();
    }
  }

  /** Never rejects. */
  async #answer(id: RequestId, method: string, params: unknown, sizeBytes: number): Promise<void> {
    if (this.#calls.has(id)) {
      this.#send(encodeError(id, protocolErrors.invalidRequest("A call with this id is in flight already")));
      return;
    }
    try {
      this.#gate.enter(sizeBytes);
    } catch (error) {
      this.#sendError(id, error, "limit");
      return;
    }
    const call = new AbortController();
    this.#calls.set(id, call);
    try {
      const result = await this.#dispatch(method, params, call.signal);
      this.#send(encodeResult(id, result));
    } catch (error) {
      this.#sendError(id, error, method === "packages/install" ? "install" : "tool", call.signal);
    } finally {
      this.#gate.leave(sizeBytes);
      if (this.#calls.get(id) === call) this.#calls.delete(id);
    }
  }

  #dispatch(method: string, params: unknown, signal: AbortSignal): Promise<unknown> {
    switch (method) {
      case "tools/call": {
        const call = toolCallParams.safeParse(params);
        if (!call.success) throw protocolErrors.invalidParams(method, call.error);
        return this.#handlers.callTool(call.data, { signal });
      }
      case "packages/install": {
        const install = installParams.safeParse(params);
        if (!install.success) throw protocolErrors.invalidParams(method, install.error);
        return this.#handlers.installPackage(install.data.requirement, { signal }).then((output) => ({ output }));
      }
      default:
        throw protocolErrors.unknownMethod();
    }
  }

  #sendError(id: RequestId, thrown: unknown, fallback: ErrorKind, signal?: AbortSignal): void {
    this.#send(encodeError(id, toWireError(thrown, fallback) ?? this.#unexpected(thrown, signal)));
  }

  #unexpected(thrown: unknown, signal: AbortSignal | undefined): BridgeError {
    if (signal?.aborted === true) return new BridgeError("cancelled", "The call was cancelled");
    this.#logger.error("A call over the bridge failed unexpectedly", { error: messageOf(thrown) });
    return new BridgeError("tool", "The call failed for an internal reason; the server's log says more");
  }

  /** Answers that nobody reads stop the reading of further calls, and in the end close the connection. */
  #send(frame: Buffer): void {
    if (this.#stream.destroyed || this.#stream.writableEnded) return;
    const waiting = this.#stream.writableLength > 0;
    if (waiting && !this.#gate.mayHold(frame.length)) {
      this.#logger.warn("A kernel does not read its answers; its connection is closed");
      this.close();
      return;
    }
    if (!this.#stream.write(frame)) this.#stream.pause();
  }
}

function isResponse(message: unknown): boolean {
  return typeof message === "object" && message !== null && !("method" in message) && "id" in message;
}
