import { stripControls } from "../common/logger.ts";

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
