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
type Item =
  | { kind: "stream"; parts: string[] }
  | { kind: "display"; id: string | undefined; text: string; pictures: readonly Picture[] };

/** By type, how its data begins: what does not is no picture, and its text is shown instead. */
const PICTURE_STARTS = { "image/png": "iVBORw0KGgo", "image/jpeg": "/9j/", "image/svg+xml": "" } as const;
const PICTURE_TYPES = Object.keys(PICTURE_STARTS) as (keyof typeof PICTURE_STARTS)[]; // they are all
/** What an item costs us beside its text: a cell may show a million empty ones. */
const ITEM_CHARS = 64;
/** What IPython says of an object that has only richer forms. */
const NO_TEXT = /^<IPython\.core\.display\.\w+ object>$/;

/** Folds output messages, in the order of their arrival, as a notebook would show them. */
export class OutputFolder {
  #items: Item[] = [];
  #clearAtNext = false;
  #bytes = 0;
  /** Looked for piece by piece, while the kernel works on: at the end it would take as long as to receive a large output. */
  #hasControls = false;

  /** UTF-16 units and Base64 characters taken in so far, cleared ones included, and something for each item: a measure of what the cell costs us. */
  get size(): number {
    return this.#bytes;
  }

  /** Each returns the text that the message adds, for streaming. */
  stream(text: string): string {
    this.#beforeOutput();
    this.#count(text);
    const last = this.#items.at(-1);
    if (last?.kind === "stream") last.parts.push(text);
    else this.#items.push({ kind: "stream", parts: [text] });
    return text;
  }

  display(bundle: Bundle): string {
    this.#beforeOutput();
    const item = this.#toDisplay(bundle);
    this.#items.push(item);
    return item.text === "" ? "" : `${item.text}\n`;
  }

  /** Replaces every display of that id in this cell, as notebooks do; unknown ids are ignored. */
  updateDisplay(bundle: Bundle): string {
    const id = bundle.transient?.display_id;
    const item = this.#toDisplay(bundle);
    if (id !== undefined)
      this.#items = this.#items.map((old) => (old.kind === "display" && old.id === id ? item : old));
    return "";
  }

  error(traceback: readonly string[]): string {
    this.#beforeOutput();
    const text = traceback.join("\n");
    this.#count(text);
    this.#items.push({ kind: "display", id: undefined, text, pictures: [] });
    return `${text}\n`;
  }

  clear(wait: boolean): void {
    if (wait) this.#clearAtNext = true;
    else this.#items = [];
  }

  fold(): CellOutput {
    let text = "";
    for (const item of this.#items) {
      if (item.kind === "stream") {
        item.parts = [item.parts.join("")]; // the whole once in memory, not twice
        text += item.parts[0] ?? "";
      } else if (item.text !== "") {
        // Every display starts on a line of its own, and so does what follows it.
        if (text !== "" && !text.endsWith("\n")) text += "\n";
        text += `${item.text}\n`;
      }
    }
    return {
      text: (this.#hasControls ? toPlainText(text) : text).trimEnd(),
      pictures: this.#items.flatMap((item) => (item.kind === "display" ? item.pictures : [])),
    };
  }

  #beforeOutput(): void {
    if (!this.#clearAtNext) return;
    this.#clearAtNext = false;
    this.#items = [];
  }

  #count(text: string): void {
    this.#bytes += text.length + ITEM_CHARS;
    this.#hasControls ||= hasControls(text);
  }

  #toDisplay(bundle: Bundle): Item & { kind: "display" } {
    const pictures = PICTURE_TYPES.flatMap((mimeType) => {
      const data = bundle.data[mimeType];
      return typeof data === "string" && data.startsWith(PICTURE_STARTS[mimeType]) ? [{ mimeType, data }] : [];
    }).slice(0, 1);
    const text = pictures.length > 0 ? "" : textOf(bundle.data);
    this.#count(text);
    this.#bytes += pictures[0]?.data.length ?? 0;
    return { kind: "display", id: bundle.transient?.display_id, text, pictures };
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
  const json = data["application/json"];
  if (json !== undefined) return JSON.stringify(json);
  return typeof plain === "string" ? plain : "";
}
