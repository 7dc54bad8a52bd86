import { z } from "zod";
import { type ErrorCode, IpyboxError } from "../common/errors.ts";
import { isDeeperThan } from "../common/json-depth.ts";

/** The longest frame in either direction, its newline not counted. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;

/** Of arguments: what they go through later is recursive. */
const MAX_DEPTH = 500;

/** What went wrong with a call, for the kernel's client to choose an exception class by. */
export type ErrorKind =
  "tool" | "not-found" | "rejected" | "timeout" | "cancelled" | "unavailable" | "limit" | "install";

export type RequestId = string | number;

const requestId = z.union([z.string().max(256), z.number()]);

/** A request or notification, its params still unchecked. */
export const incomingMessage = z.object({
  id: requestId.optional(),
  method: z.string().max(64),
  params: z.unknown().optional(),
});

export const toolCallParams = z.object({
  server: z.string().max(64),
  tool: z.string().max(1024),
  arguments: z
    .record(z.string(), z.unknown())
    .refine((value) => !isDeeperThan(MAX_DEPTH, value), `nested more than ${MAX_DEPTH} levels deep`)
    .default({}),
});

export const installParams = z.object({ requirement: z.string().max(4096) });

export const cancelledParams = z.object({ id: requestId });

const INVALID_REQUEST = -32600;
const METHOD_NOT_FOUND = -32601;
const INVALID_PARAMS = -32602;
const PARSE_ERROR = -32700;
const CALL_FAILED = -32000;

/** An error as it goes over the wire. Thrown for what is wrong with a frame, made by {@link toWireError} for a call. */
export class BridgeError extends Error {
  readonly kind: ErrorKind;
  readonly code: number;

  constructor(kind: ErrorKind, message: string, code = CALL_FAILED) {
    super(message);
    this.name = "BridgeError";
    this.kind = kind;
    this.code = code;
  }
}

export const protocolErrors = {
  malformed: () => new BridgeError("tool", "The frame is not a JSON-RPC 2.0 message", PARSE_ERROR),
  invalidRequest: (why: string) => new BridgeError("tool", why, INVALID_REQUEST),
  unknownMethod: () => new BridgeError("not-found", "The bridge has no such method", METHOD_NOT_FOUND),
  invalidParams: (method: string, error: z.ZodError) =>
    new BridgeError("tool", `Wrong parameters of ${method}: ${z.prettifyError(error)}`, INVALID_PARAMS),
  resultTooLarge: (sizeBytes: number) =>
    new BridgeError("limit", `The result has ${sizeBytes} bytes; at most ${MAX_FRAME_BYTES} can be passed on`),
  tooLarge: () => new BridgeError("limit", `The frame is larger than ${MAX_FRAME_BYTES} bytes`),
};

const KIND_OF_CODE: Partial<Record<ErrorCode, ErrorKind>> = {
  "tool-failed": "tool",
  "unknown-server": "not-found",
  "unknown-tool": "not-found",
  "tool-timeout": "timeout",
  "tool-cancelled": "cancelled",
  "upstream-unavailable": "unavailable",
  "upstream-start-failed": "unavailable",
  "missing-variable": "unavailable",
  "workspace-program": "unavailable",
  "invalid-server-params": "unavailable",
  "tool-result-too-large": "limit",
  "too-many-calls": "limit",
};

/** Undefined for what was not thrown on purpose: a bug, whose message is not for the kernel's eyes. */
export function toWireError(thrown: unknown, fallback: ErrorKind): BridgeError | undefined {
  if (thrown instanceof BridgeError) return thrown;
  if (!(thrown instanceof IpyboxError)) return undefined;
  const kind = KIND_OF_CODE[thrown.code] ?? fallback;
  const hint = kind === "tool" || thrown.hint === undefined ? "" : `\nHint: ${thrown.hint}`;
  return new BridgeError(kind, thrown.message + hint);
}
