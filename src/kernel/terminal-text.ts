import { ANSI_SEQUENCE, stripControls } from "../common/logger.ts";

/**
 * Text as a terminal would show it in the end: `10%\r20%\r30%` is `30%`, lines that were erased are gone. Other control
 * characters and ANSI sequences are left out. Takes time in proportion to the text, whatever a cell makes of it.
 */
export function toPlainText(text: string): string {
  return text.replaceAll(/\r+\n/g, "\n").split("\n").map(lastState).join("\n");
}

/** Whether there is anything in it that {@link toPlainText} would change. Most output has nothing. */
export function hasControls(text: string): boolean {
  return CONTROLS.test(text);
}

// eslint-disable-next-line no-control-regex -- control characters are what this is about
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;
/** Carriage return, backspace, and "erase in line" (EL). */
// eslint-disable-next-line no-control-regex -- likewise
const MOVES = /\r|\u0008|\u001b\[[012]?K/;
const SEQUENCE = new RegExp(ANSI_SEQUENCE, "y");

function lastState(text: string): string {
  if (!MOVES.test(text)) return stripControls(text);
  const line = new Line();
  for (let index = 0; index < text.length;) {
    const code = text.charCodeAt(index);
    const sequence = code === ESCAPE || code === CSI ? sequenceAt(text, index) : "";
    if (sequence !== "") line.erase(sequence);
    else if (code === RETURN) line.moveTo(0);
    else if (code === BACKSPACE) line.moveTo(line.column - 1);
    else if (!isControl(code)) line.write(code);
    index += Math.max(1, sequence.length);
  }
  return line.toString();
}

const [BACKSPACE, TAB, RETURN, ESCAPE, CSI] = [0x08, 0x09, 0x0d, 0x1b, 0x9b];

function isControl(code: number): boolean {
  return (code < 0x20 && code !== TAB) || (code >= 0x7f && code <= 0x9f);
}

function sequenceAt(text: string, index: number): string {
  SEQUENCE.lastIndex = index;
  return SEQUENCE.exec(text)?.[0] ?? "";
}

/** A line of a terminal. Only what was written between `#from` and `#to` is kept: erasing moves these, and copies nothing. */
class Line {
  #units = new Uint16Array(256);
  #from = 0;
  #to = 0;
  column = 0;

  moveTo(column: number): void {
    this.column = Math.max(0, column);
  }

  write(unit: number): void {
    const { column } = this;
    if (this.#from === this.#to) this.#from = this.#to = column;
    this.#split(column);
    this.#split(column + 1);
    // What lies between the new and the old was erased.
    if (column + 1 < this.#from) this.#units.fill(SPACE, column + 1, this.#from);
    this.#from = Math.min(this.#from, column);
    this.#to = Math.max(this.#to, column + 1);
    if (this.#to > this.#units.length) this.#grow();
    this.#units[column] = unit;
    this.column += 1;
  }

  /** From the cursor to the end (`0K`, `K`), from the start to and with the cursor (`1K`), or all (`2K`); others nothing. */
  erase(sequence: string): void {
    if (/\[[012]?K$/.test(sequence)) {
      this.#split(this.column);
      this.#split(this.column + 1);
    }
    if (/\[[02]?K$/.test(sequence)) this.#to = Math.max(this.#from, Math.min(this.#to, this.column));
    if (/\[[12]K$/.test(sequence)) this.#from = Math.min(this.#to, Math.max(this.#from, this.column + 1));
  }

  toString(): string {
    const { buffer, byteOffset } = this.#units;
    const length = this.#to - this.#from;
    return (
      " ".repeat(length === 0 ? 0 : this.#from) +
      Buffer.from(buffer, byteOffset + 2 * this.#from, 2 * length).toString("utf16le")
    );
  }

  /** A character of two units that begins before `column` and ends behind it leaves blanks, as a wide one does in a terminal. */
  #split(column: number): void {
    if (column <= this.#from || column >= this.#to) return;
    const before = this.#units[column - 1] ?? 0;
    const behind = this.#units[column] ?? 0;
    if ((before & 0xfc00) === 0xd800 && (behind & 0xfc00) === 0xdc00) this.#units.fill(SPACE, column - 1, column + 1);
  }

  #grow(): void {
    const larger = new Uint16Array(2 * this.#to);
    larger.set(this.#units);
    this.#units = larger;
  }
}

const SPACE = 0x20;
