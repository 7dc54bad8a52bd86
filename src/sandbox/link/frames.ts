import type { ServiceName } from "./services.ts";

/** In the order of their numbers on the carrier. */
const SERVICES = ["gateway", "tools", "egress"] as const satisfies readonly ServiceName[];

/** Longest payload of a frame. */
export const MAX_PAYLOAD_BYTES = 64 * 1024;

/**
 * What crosses the carrier of an exec link, either way; docs/architecture.md, "The exec link". Connections are numbered
 * by the sandbox, which alone opens them, from 1 upwards.
 */
export type Frame =
  | { readonly kind: "open"; readonly connection: number; readonly service: ServiceName }
  | { readonly kind: "data"; readonly connection: number; readonly payload: Buffer }
  /** No more data from this side. */
  | { readonly kind: "end"; readonly connection: number }
  /** The connection is gone, both ways. */
  | { readonly kind: "reset"; readonly connection: number }
  /** So many bytes of data were taken: as many more may be sent. */
  | { readonly kind: "credit"; readonly connection: number; readonly bytes: number }
  | { readonly kind: "ping" };

const KINDS = ["open", "data", "end", "reset", "credit", "ping"] as const satisfies readonly Frame["kind"][];
/** Kind (1 byte, from 1), connection, length of the payload (4 bytes each). */
const HEADER_BYTES = 9;

export function encodeFrame(frame: Frame): Buffer {
  const payload = payloadOf(frame);
  const encoded = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  encoded.writeUInt8(KINDS.indexOf(frame.kind) + 1, 0);
  encoded.writeUInt32BE(frame.kind === "ping" ? 0 : frame.connection, 1);
  encoded.writeUInt32BE(payload.length, 5);
  encoded.set(payload, HEADER_BYTES);
  return encoded;
}

/** Cuts what arrives into frames. Holds one incomplete frame at most; throws on what is none. */
export class FrameDecoder {
  #pending: Buffer = Buffer.alloc(0);

  *decode(chunk: Buffer): Generator<Frame, void> {
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const payloadBytes = rest.readUInt32BE(5);
      if (payloadBytes > MAX_PAYLOAD_BYTES) throw new Error(`a frame of ${payloadBytes} bytes`);
      const end = HEADER_BYTES + payloadBytes;
      if (rest.length < end) break;
      yield toFrame(rest.readUInt8(0), rest.readUInt32BE(1), rest.subarray(HEADER_BYTES, end));
      rest = rest.subarray(end);
    }
    this.#pending = rest;
  }
}

function payloadOf(frame: Frame): Buffer {
  switch (frame.kind) {
    case "open":
      return Buffer.of(SERVICES.indexOf(frame.service));
    case "data":
      return frame.payload;
    case "credit": {
      const payload = Buffer.allocUnsafe(4);
      payload.writeUInt32BE(frame.bytes);
      return payload;
    }
    case "end":
    case "reset":
    case "ping":
      return Buffer.alloc(0);
  }
}

function toFrame(number: number, connection: number, payload: Buffer): Frame {
  const kind: Frame["kind"] | undefined = KINDS[number - 1];
  if (kind === undefined) throw new Error(`a frame of the unknown kind ${number}`);
  switch (kind) {
    case "open": {
      const service = payload.length === 1 ? SERVICES[payload.readUInt8()] : undefined;
      if (service === undefined) throw new Error("a connection to no service");
      return { kind, connection, service };
    }
    case "data":
      return { kind, connection, payload };
    case "credit":
      if (payload.length !== 4) throw new Error("a credit of another size");
      return { kind, connection, bytes: payload.readUInt32BE() };
    case "end":
    case "reset":
      return { kind, connection };
    case "ping":
      return { kind };
  }
}
