import type { z } from "zod";

import { stripControls } from "../common/logger.ts";
import type { outputShapes } from "./messages.ts";

/** A picture that a cell displayed. `data` is Base64 as the kernel sent it; its shape is checked by who decodes it. */
export interface Picture {
  readonly mimeType: "image/png" | "image/jpeg";
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

const PICTURE_TYPES = ["image/png", "image/jpeg"] as const;

/** Folds output messages, in the order of their arrival, as a notebook would show them. */
export class OutputFolder {
  #items: Item[] = [];
  #clearAtNext = false;
  #bytes = 0;

  /** UTF-16 units and Base64 characters taken in so far, cleared ones included: a measure of what the cell costs us. */
  get size(): number {
    return this.#bytes;
  }

  /** Each returns the text that the message adds, for streaming. */
  stream(text: string): string {
    this.#beforeOutput();
    this.#bytes += text.length;
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
    this.#bytes += text.length;
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
        text += item.parts.join("");
      } else if (item.text !== "") {
        // Every display starts on a line of its own, and so does what follows it.
        if (text !== "" && !text.endsWith("\n")) text += "\n";
        text += `${item.text}\n`;
      }
    }
    return {
      text: collapseCarriageReturns(stripControlsKeepingReturns(text)).trimEnd(),
      pictures: this.#items.flatMap((item) => (item.kind === "display" ? item.pictures : [])),
    };
  }

  #beforeOutput(): void {
    if (!this.#clearAtNext) return;
    this.#clearAtNext = false;
    this.#items = [];
  }

  #toDisplay(bundle: Bundle): Item & { kind: "display" } {
    const pictures = PICTURE_TYPES.flatMap((mimeType) => {
      const data = bundle.data[mimeType];
      return typeof data === "string" ? [{ mimeType, data }] : [];
    }).slice(0, 1);
    const text = pictures.length > 0 ? "" : textOf(bundle.data);
    this.#bytes += text.length + (pictures[0]?.data.length ?? 0);
    return { kind: "display", id: bundle.transient?.display_id, text, pictures };
  }
}

/** `text/plain` where there is one; else what a reader makes most of. A picture needs no text beside it. */
function textOf(data: Readonly<Record<string, unknown>>): string {
  for (const type of ["text/plain", "text/markdown", "text/html", "text/latex", "image/svg+xml"]) {
    const value = data[type];
    if (typeof value === "string") return value;
  }
  const json = data["application/json"];
  return json === undefined ? "" : JSON.stringify(json);
}

/** Carriage returns are kept for {@link collapseCarriageReturns}; other control characters and ANSI sequences go. */
function stripControlsKeepingReturns(text: string): string {
  // Most output has none of them, and a 5 MB output should not pay for a replacement.
  // eslint-disable-next-line no-control-regex -- control characters are what this is about
  if (!/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/.test(text)) return text;
  return text.split("\r").map(stripControls).join("\r");
}

/** `10%\r20%\r30%` is `30%`: a line shows what a terminal would show in the end. */
function collapseCarriageReturns(text: string): string {
  if (!text.includes("\r")) return text;
  return text.replaceAll("\r\n", "\n").split("\n").map(lastState).join("\n");
}

function lastState(line: string): string {
  if (!line.includes("\r")) return line;
  let shown = "";
  for (const part of line.split("\r")) {
    // What a shorter rewrite does not cover stays visible, as in a terminal.
    if (part !== "") shown = part + shown.slice(part.length);
  }
  return shown;
}
