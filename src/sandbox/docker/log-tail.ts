import { StringDecoder } from "node:string_decoder";
import { stripControls } from "../../common/logger.ts";

/** The last output of a sandbox, bounded: older text is dropped. */
export class LogTail {
  readonly #maxChars: number;
  #text = "";

  constructor(maxChars: number) {
    this.#maxChars = maxChars;
  }

  append(text: string): void {
    this.#text += text;
    // Cutting at each append would copy all of it for every small piece that a flood brings.
    if (this.#text.length > 2 * this.#maxChars) this.#text = this.#text.slice(-this.#maxChars);
  }

  /** The last lines, without control sequences. */
  lines(count: number): string {
    const lines = stripControls(this.#text.slice(-this.#maxChars)).split("\n");
    if (lines.at(-1) === "") lines.pop();
    return lines.slice(Math.max(0, lines.length - count)).join("\n");
  }
}

const FRAME_HEADER_BYTES = 8;

/**
 * Unpacks an attach stream of the engine (frames of an 8-byte header, length at offset 4, and output) for `onText`.
 * Bounded memory however the frames are cut. dockerode's own demultiplexer overflows the stack on many small frames.
 */
export function demultiplex(onText: (text: string) => void): (chunk: Buffer) => void {
  const decoder = new StringDecoder("utf8");
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  let headerBytes = 0;
  let payloadBytes = 0;
  return (chunk) => {
    let offset = 0;
    while (offset < chunk.length) {
      if (payloadBytes === 0) {
        const copied = chunk.copy(header, headerBytes, offset, offset + FRAME_HEADER_BYTES - headerBytes);
        offset += copied;
        headerBytes += copied;
        if (headerBytes < FRAME_HEADER_BYTES) return;
        headerBytes = 0;
        payloadBytes = header.readUInt32BE(4);
        continue;
      }
      const payload = chunk.subarray(offset, offset + payloadBytes);
      offset += payload.length;
      payloadBytes -= payload.length;
      onText(decoder.write(payload));
    }
  };
}
