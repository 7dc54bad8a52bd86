import { markIntegers, mayBeRounded } from "../common/exact-integers.ts";

const NEWLINE = 0x0a;

/**
 * An upstream's message with its integers marked where it is a tool's result: that is only passed on, and restored at the
 * bridge. Throws where it is no JSON.
 */
export function markResult(json: string): string {
  return mayBeRounded(json) && isToolResult(JSON.parse(json)) ? markIntegers(json) : json;
}

/** {@link markResult} for the lines of an HTTP answer, which are messages, plain or as events, or something else. */
export function markResultLines(): TransformStream<Uint8Array, Uint8Array> {
  let pending: Uint8Array[] = [];
  const emit = (controller: TransformStreamDefaultController<Uint8Array>) => {
    if (pending.length > 0) controller.enqueue(markLines(Buffer.concat(pending)));
    pending = [];
  };
  return new TransformStream({
    transform(chunk, controller) {
      const end = chunk.lastIndexOf(NEWLINE) + 1;
      if (end > 0) {
        pending.push(chunk.subarray(0, end));
        emit(controller);
      }
      if (end < chunk.length) pending.push(chunk.subarray(end));
    },
    flush: emit,
  });
}

function markLines(bytes: Buffer): Uint8Array {
  const text = bytes.toString("utf8");
  return mayBeRounded(text) ? Buffer.from(text.split("\n").map(markLine).join("\n")) : bytes;
}

function markLine(line: string): string {
  const start = /^(data:)?\s*/.exec(line)?.[0].length ?? 0;
  try {
    return line.slice(0, start) + markResult(line.slice(start));
  } catch {
    return line;
  }
}

function isToolResult(message: unknown): boolean {
  if (typeof message !== "object" || message === null || !("result" in message)) return false;
  const { result } = message;
  return typeof result === "object" && result !== null && ("content" in result || "structuredContent" in result);
}
