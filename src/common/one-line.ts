const MAX_CHARACTERS = 200;

/** A name that others chose, as a part of a line: no line break, nothing that a terminal acts on, nothing endless. */
export function oneLine(name: string, maxCharacters = MAX_CHARACTERS): string {
  return name.replace(/\p{C}/gu, "?").slice(0, maxCharacters);
}
