/** A whole line without its newline, or what is known of one that was too long to keep. */
export type Line =
  | { readonly kind: "line"; readonly bytes: Buffer }
  | { readonly kind: "oversize"; readonly head: string; readonly tail: string };

/** How much of an oversize line's beginning and end is kept: enough to find the id of a JSON-RPC message. */
const EXCERPT_BYTES = 256;
const NEWLINE = 0x0a;
const EMPTY = Buffer.alloc(0);

/**
 * Cuts a byte stream at newlines, in memory that is bounded whatever the sender does: a line over `maxBytes` is
 * discarded up to its newline, also when that never comes, and bytes that trickle in singly cost no more than one
 * large chunk.
 */
export class LineSplitter {
  readonly #maxBytes: number;
  #pending: Buffer | undefined;
  #pendingBytes = 0;
  #discarding: { head: string; tail: Buffer } | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes held for a line that has not ended yet. */
  get heldBytes(): number {
    return this.#pending?.length ?? 0;
  }

  /** The lines that `chunk` completes. They may share its memory. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      lines.push(this.#complete(chunk.subarray(start, end)));
      start = end + 1;
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
    return lines;
  }

  /** Gives up the line that has not ended yet: it will come out as oversize. */
  discardPending(): void {
    this.#discard(EMPTY);
  }

  #complete(rest: Buffer): Line {
    if (!this.#discarding && this.#pendingBytes + rest.length <= this.#maxBytes) {
      return { kind: "line", bytes: this.#pending ? this.#take(rest) : rest };
    }
    const { head, tail } = this.#discard(rest);
    this.#discarding = undefined;
    return { kind: "oversize", head, tail: tail.toString("utf8") };
  }

  #keep(bytes: Buffer): void {
    if (this.#discarding || this.#pendingBytes + bytes.length > this.#maxBytes) this.#discard(bytes);
    else this.#append(bytes);
  }

  /** Of the line so far and `more`, keeps the two ends only. */
  #discard(more: Buffer): { head: string; tail: Buffer } {
    const before = this.#discarding?.tail ?? this.#take(EMPTY);
    const tail = lastBytes(Buffer.concat([lastBytes(before), lastBytes(more)]));
    const firstBytes = () => Buffer.concat([before.subarray(0, EXCERPT_BYTES), more.subarray(0, EXCERPT_BYTES)]);
    this.#discarding = { head: this.#discarding?.head ?? firstBytes().toString("utf8", 0, EXCERPT_BYTES), tail };
    return this.#discarding;
  }

  /** Doubles the buffer where it is full, so that appending costs linear time and never more than twice the bytes. */
  #append(bytes: Buffer): void {
    const needed = this.#pendingBytes + bytes.length;
    if (!this.#pending || this.#pending.length < needed) {
      const grown = Buffer.allocUnsafeSlow(Math.min(Math.max(needed * 2, 1024), Math.max(this.#maxBytes, needed)));
      this.#pending?.copy(grown, 0, 0, this.#pendingBytes);
      this.#pending = grown;
    }
    bytes.copy(this.#pending, this.#pendingBytes);
    this.#pendingBytes = needed;
  }

  #take(rest: Buffer): Buffer {
    if (rest.length > 0) this.#append(rest);
    const taken = this.#pending?.subarray(0, this.#pendingBytes) ?? EMPTY;
    this.#pending = undefined;
    this.#pendingBytes = 0;
    return taken;
  }
}

function lastBytes(bytes: Buffer): Buffer {
  return Buffer.from(bytes.subarray(Math.max(0, bytes.length - EXCERPT_BYTES)));
}

const ID = String.raw`"id"\s*:\s*(-?\d{1,15}|"(?:[^"\\]|\\.){0,128}")`;
const ID_IN_HEAD = new RegExp(String.raw`^\s*\{\s*(?:"(?:jsonrpc|method)"\s*:\s*"[^"\\]{0,64}"\s*,\s*){0,2}${ID}`);
const ID_IN_TAIL = new RegExp(String.raw`${ID}\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$`);

/**
 * The id of a JSON-RPC message of which only its ends were kept: writers put it first or last. Undefined where it is
 * in neither.
 */
export function idOfOversize(line: { readonly head: string; readonly tail: string }): string | number | undefined {
  const found = ID_IN_HEAD.exec(line.head) ?? ID_IN_TAIL.exec(line.tail);
  return found?.[1] === undefined ? undefined : parseId(found[1]);
}

function parseId(text: string): string | number | undefined {
  try {
    const id: unknown = JSON.parse(text);
    return typeof id === "string" || typeof id === "number" ? id : undefined;
  } catch {
    return undefined;
  }
}
