import { StringDecoder } from "node:string_decoder";

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
