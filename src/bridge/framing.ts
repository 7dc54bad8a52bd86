import { z } from "zod";

import { markIntegers, mayBeRounded, restoreIntegers } from "../common/exact-integers.ts";
import { idOfOversize, LineSplitter } from "../common/line-splitter.ts";
import { type BridgeError, MAX_FRAME_BYTES, protocolErrors, type RequestId } from "./protocol.ts";

const MAX_MESSAGE_CHARACTERS = 100_000;

/** What one frame turned out to be. */
export type Frame =
  | { readonly kind: "message"; readonly message: unknown; readonly sizeBytes: number }
  | { readonly kind: "malformed"; readonly error: BridgeError; readonly id: RequestId | null };

/** Turns the bytes of a connection into JSON values; memory is bounded by one frame. */
export class FrameReader {
  readonly #lines = new LineSplitter(MAX_FRAME_BYTES);

  /** Bytes held for a frame that has not ended yet. */
  get heldBytes(): number {
    return this.#lines.heldBytes;
  }

  /** Gives up the frame that has not ended yet, as if it were too large. */
  discardPending(): void {
    this.#lines.discardPending();
  }

  /** The frames that `chunk` completes, in order. Empty lines are none. */
  *push(chunk: Buffer): Generator<Frame> {
    for (const line of this.#lines.push(chunk)) {
      if (line.kind === "oversize") {
        yield { kind: "malformed", error: protocolErrors.tooLarge(), id: idOfOversize(line) ?? null };
      } else if (line.bytes.length > 0) {
        yield parse(line.bytes);
      }
    }
  }
}

function parse(bytes: Buffer): Frame {
  try {
    const message = parseMessage(bytes.toString("utf8"));
    return { kind: "message", message, sizeBytes: bytes.length };
  } catch {
    return { kind: "malformed", error: protocolErrors.malformed(), id: null };
  }
}

const withArguments = z.looseObject({ params: z.looseObject({ arguments: z.unknown() }) });

/** Arguments are only passed on; whatever else there is, is looked at. */
function parseMessage(json: string): unknown {
  const message: unknown = JSON.parse(json);
  if (!mayBeRounded(json)) return message;
  const [rounded, exact] = [message, JSON.parse(markIntegers(json))].map(
    (value) => withArguments.safeParse(value).data,
  );
  if (!rounded || !exact) return message;
  return { ...rounded, params: { ...rounded.params, arguments: exact.params.arguments } };
}

/** @throws BridgeError of kind `limit` where the frame would be too large for the other side. */
export function encodeResult(id: RequestId, result: unknown): Buffer {
  const frame = toFrame({ jsonrpc: "2.0", id, result });
  if (frame.length - 1 > MAX_FRAME_BYTES) throw protocolErrors.resultTooLarge(frame.length - 1);
  return frame;
}

/** Of a long message only the beginning goes out, so an error always fits. */
export function encodeError(id: RequestId | null, error: BridgeError): Buffer {
  return toFrame({
    jsonrpc: "2.0",
    id,
    error: { code: error.code, message: error.message.slice(0, MAX_MESSAGE_CHARACTERS), data: { kind: error.kind } },
  });
}

function toFrame(message: unknown): Buffer {
  return Buffer.from(`${restoreIntegers(JSON.stringify(message))}\n`);
}
