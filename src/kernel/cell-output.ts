import type { z } from "zod";

import type { outputShapes } from "./messages.ts";
import { hasControls, toPlainText } from "./terminal-text.ts";

/** A picture that a cell displayed. `data` is as the kernel sent it, SVG as text and the others as Base64; who decodes it checks it. */
export interface Picture {
  readonly mimeType: "image/png" | "image/jpeg" | "image/svg+xml";
  readonly data: string;
}

/** What a cell printed and displayed so far. */
export interface CellOutput {
  readonly text: string;
  readonly pictures: readonly Picture[];
}

type Bundle = z.output<(typeof outputShapes)["display_data"]>;
/** What one or more displays of an id show, until an update. */
interface Shown {
  text: string;
  pictures: readonly Picture[];
}
type Item = { kind: "stream"; parts: string[] } | { kind: "display"; shown: Shown };

/** By type, how its data begins: what does not is no picture, and its text is shown instead. */
const PICTURE_STARTS = { "image/png": "iVBORw0KGgo", "image/jpeg": "/9j/", "image/svg+xml": "" } as const;
const PICTURE_TYPES = Object.keys(PICTURE_STARTS) as (keyof typeof PICTURE_STARTS)[]; // they are all
const MAX_JSON_VALUES = 100_000;
/** What IPython says of an object that has only richer forms, of its own or of others. */
const NO_TEXT = /^<(?:IPython\.core\.display\.\w+ object|[\w.]+(?: object)? at 0x[0-9a-f]+)>$/;

/** Folds output messages, in the order of their arrival, as a notebook would show them. */
export class OutputFolder {
  #items: Item[] = [];
  /** By display id: to look for it among a million items would take a cell's every update as long. */
  #shown = new Map<string, Shown>();
  #clearAtNext = false;
  /** Looked for piece by piece, while the kernel works on: at the end it would take as long as to receive a large output. */
  #hasControls = false;
  readonly #maxChars: number;

  /** `maxChars`: the limit of text, and of pictures, that {@link fold} gives. */
  constructor(maxChars: number) {
    this.#maxChars = maxChars;
  }

  /** Each returns the text that the message adds, for streaming. */
  stream(text: string): string {
    this.#beforeOutput();
    this.#lookForControls(text);
    const last = this.#items.at(-1);
    if (last?.kind === "stream") last.parts.push(text);
    else this.#items.push({ kind: "stream", parts: [text] });
    return text;
  }

  /** One of an id that was shown before updates those, too. */
  display(bundle: Bundle): string {
    this.#beforeOutput();
    const shown = this.#toShown(bundle);
    const id = bundle.transient?.display_id;
    const earlier = id === undefined ? undefined : this.#shown.get(id);
    if (id !== undefined && earlier === undefined) this.#shown.set(id, shown);
    this.#items.push({ kind: "display", shown: earlier === undefined ? shown : Object.assign(earlier, shown) });
    return shown.text === "" ? "" : `${shown.text}\n`;
  }

  /** Replaces every display of that id in this cell, as notebooks do; unknown ids are ignored. */
  updateDisplay(bundle: Bundle): string {
    const earlier = this.#shown.get(bundle.transient?.display_id ?? "");
    const shown = this.#toShown(bundle);
    if (earlier !== undefined) Object.assign(earlier, shown);
    return "";
  }

  error(traceback: readonly string[]): string {
    this.#beforeOutput();
    const text = traceback.join("\n");
    this.#lookForControls(text);
    this.#items.push({ kind: "display", shown: { text, pictures: [] } });
    return `${text}\n`;
  }

  clear(wait: boolean): void {
    this.#clearAtNext = wait;
    if (!wait) this.#removeAll();
  }

  /** No more than the limit: displays of one id are many times what came of them. */
  fold(): CellOutput {
    const pieces: string[] = []; // to look at the end of what has become one string would copy all of it, each time
    let room = this.#maxChars;
    const add = (text: string) => {
      const piece = text.slice(0, room);
      if (piece !== "") pieces.push(piece);
      room -= piece.length;
    };
    for (const item of this.#items) {
      if (item.kind === "stream") {
        item.parts = [item.parts.join("")]; // the whole once in memory, not twice
        add(item.parts[0] ?? "");
      } else if (item.shown.text !== "") {
        // Every display starts on a line of its own, and so does what follows it.
        const isInLine = pieces.at(-1)?.endsWith("\n") === false;
        add(`${isInLine ? "\n" : ""}${item.shown.text}\n`);
      }
    }
    const text = pieces.join("");
    return { text: (this.#hasControls ? toPlainText(text) : text).trimEnd(), pictures: this.#foldPictures() };
  }

  #foldPictures(): Picture[] {
    const pictures = this.#items.flatMap((item) => (item.kind === "display" ? item.shown.pictures : []));
    let chars = 0;
    return pictures.filter(({ data }) => (chars += data.length) <= this.#maxChars);
  }

  #beforeOutput(): void {
    if (this.#clearAtNext) this.clear(false);
  }

  #removeAll(): void {
    this.#items = [];
    this.#shown.clear();
  }

  #lookForControls(text: string): void {
    this.#hasControls ||= hasControls(text);
  }

  #toShown(bundle: Bundle): Shown {
    const pictures = PICTURE_TYPES.flatMap((mimeType) => {
      const data = bundle.data[mimeType];
      return typeof data === "string" && data.startsWith(PICTURE_STARTS[mimeType]) ? [{ mimeType, data }] : [];
    }).slice(0, 1);
    const text = pictures.length > 0 ? "" : textOf(bundle.data);
    this.#lookForControls(text);
    return { text, pictures };
  }
}

/** `text/plain` where it says something; else what a reader makes most of. A picture needs no text beside it. */
function textOf(data: Readonly<Record<string, unknown>>): string {
  const plain = data["text/plain"];
  if (typeof plain === "string" && !NO_TEXT.test(plain)) return plain;
  for (const type of ["text/markdown", "text/html", "text/latex"]) {
    const value = data[type];
    if (typeof value === "string") return value;
  }
  return textOfJson(data["application/json"]) ?? (typeof plain === "string" ? plain : "");
}

/** Undefined for none, and for more than anybody reads: however small it came, it may be too deep or too long to be written. */
function textOfJson(value: unknown): string | undefined {
  let left = MAX_JSON_VALUES;
  const count = (_key: string, part: unknown) => {
    left -= 1;
    if (left < 0) throw new RangeError("too many values");
    return part;
  };
  try {
    return JSON.stringify(value, count);
  } catch {
    return undefined;
  }
}
