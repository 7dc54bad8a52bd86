import type { Duplex } from "node:stream";
import { Transform } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import type { Carrier } from "../link/multiplexer.ts";
import type { LogTail } from "../log-tail.ts";

const FRAME_HEADER_BYTES = 8;
const STDOUT = 1;

/** Appends what a container writes, both streams of it, to its log. */
export function logOutput(attached: NodeJS.ReadableStream, log: LogTail): void {
  const decoder = new StringDecoder("utf8");
  attached.on(
    "data",
    demultiplex((_stream, piece) => log.append(decoder.write(piece))),
  );
}

/** A container's stdin and stdout as a carrier; its stderr goes to the log. */
export function carrierOf(attached: Duplex, log: LogTail): Carrier {
  const decoder = new StringDecoder("utf8");
  const stdout = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      feed(chunk);
      done();
    },
  });
  const feed = demultiplex((stream, piece) => {
    if (stream === STDOUT) stdout.push(piece);
    else log.append(decoder.write(piece));
  });
  attached.once("close", () => stdout.destroy());
  return { incoming: attached.pipe(stdout), outgoing: attached };
}

/**
 * Unpacks an attach stream of the engine: frames of an 8-byte header (number of the stream at offset 0, length at
 * offset 4) and output. Holds no output back, however the frames are cut.
 */
export function demultiplex(onPiece: (stream: number, piece: Buffer) => void): (chunk: Buffer) => void {
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
      const piece = chunk.subarray(offset, offset + payloadBytes);
      offset += piece.length;
      payloadBytes -= piece.length;
      onPiece(header.readUInt8(0), piece);
    }
  };
}
