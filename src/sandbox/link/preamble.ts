import type { Duplex } from "node:stream";

export interface PreambleLimits {
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

/**
 * The first line that a stream brings, without its newline. What follows stays in the stream, which is left paused.
 * Rejects when the line is too long or late, or when the stream ends before it; the caller destroys the stream then.
 */
export function readPreamble(stream: Duplex, limits: PreambleLimits): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;

    const settle = (settler: () => void) => {
      clearTimeout(timer);
      stream.off("readable", onReadable).off("close", onClose);
      settler();
    };
    const fail = (reason: string) => settle(() => reject(new Error(reason)));
    const onClose = () => fail("the stream ended before its first line");
    const onReadable = () => {
      for (;;) {
        const chunk: unknown = stream.read();
        if (!Buffer.isBuffer(chunk)) return;
        const newline = chunk.indexOf(0x0a);
        bytes += newline === -1 ? chunk.length : newline;
        if (bytes > limits.maxBytes) {
          fail(`the first line is longer than ${limits.maxBytes} bytes`);
          return;
        }
        if (newline === -1) {
          chunks.push(chunk);
          continue;
        }
        chunks.push(chunk.subarray(0, newline));
        const rest = chunk.subarray(newline + 1);
        settle(() => {
          if (rest.length > 0) stream.unshift(rest);
          resolve(Buffer.concat(chunks).toString("utf8"));
        });
        return;
      }
    };
    const timer = setTimeout(() => fail(`no first line within ${limits.timeoutMs} ms`), limits.timeoutMs);
    stream.on("readable", onReadable).on("close", onClose);
  });
}
