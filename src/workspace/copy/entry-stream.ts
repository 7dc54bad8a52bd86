import { z } from "zod";

/** What the host tells a sandbox, and a sandbox the host. Paths are relative to the workspace, with forward slashes. */
export type Entry = z.infer<typeof entrySchema>;
/** In an answer of the sandbox also: what it does not send, and the end of it all. */
export type AnswerEntry = z.infer<typeof answerSchema>;
export type LeftReason = Extract<AnswerEntry, { type: "left" }>["why"];

/** An entry on its way to a sandbox; of a file with exactly as many bytes as it announces. */
export interface OutgoingEntry {
  readonly entry: Entry;
  readonly content?: AsyncIterable<Buffer>;
}

/** An entry of an answer. Its content is as long as a file's entry announces; else there is none. */
export interface IncomingEntry {
  readonly entry: AnswerEntry;
  readonly content: AsyncIterable<Buffer>;
}

const path = z.string().min(1).max(4096);
const entrySchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("file"),
    path,
    /** Permission bits; anything above them is not for us. */
    mode: z.int().nonnegative(),
    mtimeMs: z.int().min(0).max(8.64e15).catch(0),
    size: z.int().nonnegative(),
  }),
  z.object({ type: z.literal("directory"), path }),
  z.object({ type: z.literal("link"), path, target: path }),
  z.object({ type: z.literal("gone"), path }),
]);
const answerSchema = z.discriminatedUnion("type", [
  ...entrySchema.options,
  z.object({ type: z.literal("left"), path, why: z.enum(["special", "too-large", "unreadable", "later"]) }),
  z.object({ type: z.literal("end"), complete: z.boolean() }),
]);

/** A line of JSON for each entry, that of a file followed by its bytes. */
export async function* writeEntries(entries: AsyncIterable<OutgoingEntry>): AsyncGenerator<Buffer, void, undefined> {
  for await (const { entry, content } of entries) {
    yield Buffer.from(`${JSON.stringify(entry)}\n`);
    if (content !== undefined) yield* content;
  }
}

/**
 * Reads an answer of the sandbox, which may be anything. Ends after its `end`; throws when there is none, or a line
 * is too long or of another shape. Content that is not read is passed over.
 */
export async function* readAnswer(stream: AsyncIterable<Buffer>): AsyncGenerator<IncomingEntry, void, undefined> {
  const source = new ByteSource(stream);
  try {
    for (;;) {
      const entry = answerSchema.parse(JSON.parse(await source.readLine(MAX_LINE_BYTES)));
      source.missing = entry.type === "file" ? entry.size : 0;
      yield { entry, content: source.readMissing() };
      while (source.missing > 0) await source.readPiece(); // what the caller left
      if (entry.type === "end") return;
    }
  } finally {
    await source[Symbol.asyncDispose]();
  }
}

/** Bytes of a stream, by lines and by counts. */
class ByteSource implements AsyncDisposable {
  /** Bytes before the next line. */
  missing = 0;
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = EMPTY;

  constructor(stream: AsyncIterable<Buffer>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async readLine(maxBytes: number): Promise<string> {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const chunk = await this.#next();
      const newline = chunk.indexOf(NEWLINE);
      const piece = newline === -1 ? chunk : chunk.subarray(0, newline);
      pieces.push(piece);
      bytes += piece.length;
      if (bytes > maxBytes) throw new Error(`a line of more than ${maxBytes} bytes`);
      if (newline === -1) continue;
      this.#rest = chunk.subarray(newline + 1);
      return Buffer.concat(pieces).toString("utf8");
    }
  }

  async *readMissing(): AsyncGenerator<Buffer, void, undefined> {
    while (this.missing > 0) yield await this.readPiece();
  }

  /** Some of what is missing. */
  async readPiece(): Promise<Buffer> {
    const chunk = await this.#next();
    const piece = chunk.subarray(0, this.missing);
    this.#rest = chunk.subarray(piece.length);
    this.missing -= piece.length;
    return piece;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return?.();
  }

  async #next(): Promise<Buffer> {
    const rest = this.#rest;
    this.#rest = EMPTY;
    if (rest.length > 0) return rest;
    const next = await this.#chunks.next();
    if (next.done === true) throw new Error("the answer was cut off");
    return next.value;
  }
}

const EMPTY = Buffer.alloc(0);
const NEWLINE = 0x0a;
/** Twice a path of 4,096 bytes, each escaped as six characters. */
const MAX_LINE_BYTES = 64 * 1024;
