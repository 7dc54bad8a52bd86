import { stripControls } from "../common/logger.ts";

/**
 * Text as a terminal would show it in the end: `10%\r20%\r30%` is `30%`, lines that were erased are gone. Other control
 * characters and ANSI sequences are left out.
 */
export function toPlainText(text: string): string {
  // Most output has none of them, and a 5 MB output should not pay for a replacement.
  if (!CONTROLS.test(text)) return text;
  return text.replaceAll(/\r+\n/g, "\n").split("\n").map(lastState).join("\n");
}

// eslint-disable-next-line no-control-regex -- control characters are what this is about
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;
// Carriage return, backspace, and "erase in line" (EL) with its argument.
// eslint-disable-next-line no-control-regex -- likewise
const MOVES = /(\r|\u0008|\u001b\[[012]?K)/;

function lastState(line: string): string {
  if (!MOVES.test(line)) return stripControls(line);
  let shown = "";
  let column = 0;
  for (const part of line.split(MOVES)) {
    if (part === "\r") column = 0;
    else if (part === "\u0008") column = Math.max(0, column - 1);
    else if (part.endsWith("K") && MOVES.test(part)) shown = erase(shown, column, part);
    else {
      const text = stripControls(part);
      // What a shorter rewrite does not cover stays visible.
      shown = shown.slice(0, column).padEnd(column) + text + shown.slice(column + text.length);
      column += text.length;
    }
  }
  return shown;
}

function erase(shown: string, column: number, sequence: string): string {
  if (sequence.includes("2")) return "";
  if (sequence.includes("1")) return " ".repeat(Math.min(column, shown.length)) + shown.slice(column);
  return shown.slice(0, column);
}
