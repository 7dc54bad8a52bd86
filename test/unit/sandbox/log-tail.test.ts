import { describe, expect, it } from "vitest";
import { demultiplex } from "../../../src/sandbox/docker/attach-stream.ts";
import { LogTail } from "../../../src/sandbox/log-tail.ts";

function frame(text: string | Buffer, stream = 1): Buffer {
  const payload = Buffer.from(text);
  const header = Buffer.alloc(8);
  header.writeUInt8(stream, 0);
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

describe("the log of a sandbox", () => {
  it("keeps the last lines, bounded", () => {
    const log = new LogTail(10);
    log.append("0123456789\nab");
    log.append("c\nde\n");
    expect(log.lines(10)).toBe("89\nabc\nde");
    expect(log.lines(1)).toBe("de");
    expect(log.lines(0)).toBe("");
  });

  it("holds no control sequences when it is read", () => {
    const log = new LogTail(100);
    log.append("\u001b[31mred\u001b[0m\u0007\n");
    expect(log.lines(1)).toBe("red");
  });
});

describe("an attach stream", () => {
  const bytes = Buffer.concat([frame("hello "), frame("wörld\n", 2), frame(""), frame("end")]);

  it.each([1, 3, 7, 8, 9, 1000])("is unpacked when it comes in pieces of %i bytes", (size) => {
    const text = { 1: "", 2: "" };
    const feed = demultiplex((stream, piece) => (text[stream === 1 ? 1 : 2] += piece.toString("latin1")));
    for (let offset = 0; offset < bytes.length; offset += size) feed(bytes.subarray(offset, offset + size));
    expect(text).toEqual({ 1: "hello end", 2: Buffer.from("wörld\n").toString("latin1") });
  });

  it("of a hundred thousand small frames is no problem", () => {
    let length = 0;
    demultiplex((_stream, piece) => (length += piece.length))(
      Buffer.concat(Array.from({ length: 100_000 }, () => frame("x"))),
    );
    expect(length).toBe(100_000);
  });
});
