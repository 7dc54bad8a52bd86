/**
 * The same JSON with U+FFFD for each half of a surrogate pair that stands alone. `JSON.stringify` escapes those, and a parser
 * may refuse the whole message for one: programs in Python do, and leave it without an answer.
 */
export function wellFormed(json: string): string {
  if (!json.includes("\\ud")) return json;
  // A backslash that is escaped itself begins nothing.
  return json.replaceAll(/\\(?:\\|ud[89a-f][0-9a-f]{2})/g, (escape) => (escape === "\\\\" ? escape : "\ufffd"));
}
