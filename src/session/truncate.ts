export interface Truncated {
  readonly text: string;
  readonly shownChars: number;
  readonly totalChars: number;
}

/** From this budget on the end of the output is worth showing too. */
const HEAD_AND_TAIL_FROM = 1000;

/**
 * At most `budget` characters (Unicode code points) of `text`: below 1,000 its head, from then on three quarters head and
 * one quarter tail. Undefined when all of it fits.
 */
export function truncate(text: string, budget: number): Truncated | undefined {
  if (text.length <= budget) return undefined;
  const totalChars = countChars(text);
  if (totalChars <= budget) return undefined;
  const tailChars = budget < HEAD_AND_TAIL_FROM ? 0 : Math.floor(budget / 4);
  const head = text.slice(0, indexAfter(text, budget - tailChars));
  const tail = tailChars === 0 ? "" : text.slice(indexBefore(text, tailChars));
  return { text: tail === "" ? head : `${head}\n[...]\n${tail}`, shownChars: budget, totalChars };
}

function countChars(text: string): number {
  if (!/[\ud800-\udbff]/.test(text)) return text.length; // ten times as fast as to look at each
  let count = text.length;
  for (let index = 0; index < text.length; index += 1) {
    if (isSurrogatePair(text, index)) {
      count -= 1;
      index += 1;
    }
  }
  return count;
}

function indexAfter(text: string, chars: number): number {
  let index = 0;
  for (let count = 0; count < chars && index < text.length; count += 1) index += isSurrogatePair(text, index) ? 2 : 1;
  return index;
}

function indexBefore(text: string, chars: number): number {
  let index = text.length;
  for (let count = 0; count < chars && index > 0; count += 1) index -= isSurrogatePair(text, index - 2) ? 2 : 1;
  return index;
}

function isSurrogatePair(text: string, index: number): boolean {
  const first = text.charCodeAt(index);
  const second = text.charCodeAt(index + 1);
  return first >= 0xd800 && first <= 0xdbff && second >= 0xdc00 && second <= 0xdfff;
}
