import { randomBytes } from "node:crypto";

/** Nobody outside this process can write it. */
const MARK = `${randomBytes(16).toString("hex")}:`;
/** No JSON number of fewer digits is rounded; of more than these nothing is made anywhere. */
const INTEGER = String.raw`-?[1-9]\d{15,1000}`;
const NUMBERS = new RegExp(String.raw`(?<![\w.+-])${INTEGER}(?![\w.])`, "g");
const MARKED = new RegExp(`"${MARK}(${INTEGER})"`, "g");
const MAY_HAVE_ONE = /[-:,[\s]\d{16}/;

/** Whether {@link markIntegers} may find something. */
export function mayBeRounded(json: string): boolean {
  return MAY_HAVE_ONE.test(json);
}

/**
 * JSON for values that this process only passes on: `JSON.parse` would round integers beyond 2^53, an identifier to another's
 * for example. In their places are strings, which {@link restoreIntegers} makes numbers again.
 */
export function markIntegers(json: string): string {
  return mayBeRounded(json) ? outsideStrings(json, markNumbers) : json;
}

/** To be applied to JSON text that holds values of {@link markIntegers}. */
export function restoreIntegers(json: string): string {
  return json.includes(MARK) ? json.replaceAll(MARKED, "$1") : json;
}

function markNumbers(json: string): string {
  return json.replaceAll(NUMBERS, (digits) => (Number.isSafeInteger(Number(digits)) ? digits : `"${MARK}${digits}"`));
}

/** Searched by hand: a regular expression for strings of many megabytes overflows its stack. */
function outsideStrings(json: string, edit: (part: string) => string): string {
  const parts: string[] = [];
  let start = 0;
  for (let open = json.indexOf('"'); open !== -1; open = json.indexOf('"', start)) {
    const end = endOfString(json, open);
    parts.push(edit(json.slice(start, open)), json.slice(open, end));
    start = end;
  }
  return [...parts, edit(json.slice(start))].join("");
}

/** The index behind the closing quote. */
function endOfString(json: string, open: number): number {
  for (let close = json.indexOf('"', open + 1); close !== -1; close = json.indexOf('"', close + 1)) {
    let backslashes = 0;
    while (json[close - 1 - backslashes] === "\\") backslashes += 1;
    if (backslashes % 2 === 0) return close + 1;
  }
  return json.length;
}
