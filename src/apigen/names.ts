/**
 * Python module names for a server's tools, one for each, in the same order. Lower case, because some file systems do
 * not tell cases apart; names that collide get `_2`, `_3`, in the order in which the server lists them.
 */
export function moduleNames(toolNames: readonly string[]): string[] {
  const taken = new Set<string>();
  return toolNames.map((toolName) => {
    const name = withNumber(toIdentifier(toolName), taken);
    taken.add(name);
    return name;
  });
}

/** Keeps file names, numbers and `.py` included, far below the 255 bytes of file systems. */
const MAX_CHARACTERS = 100;

// Python 3.11 to 3.14; those with capitals can't be met in lower case.
const KEYWORDS = new Set(
  (
    "and as assert async await break class continue def del elif else except finally for from global if import in " +
    "is lambda nonlocal not or pass raise return try while with yield"
  ).split(" "),
);

function toIdentifier(toolName: string): string {
  const name = toolName
    .replace(/[^A-Za-z0-9_]/gu, "_")
    .toLowerCase()
    .slice(0, MAX_CHARACTERS);
  if (name === "" || /^[0-9]/.test(name)) return `_${name}`;
  if (KEYWORDS.has(name)) return `${name}_`;
  // `__init__`, `__main__` and their like mean something to Python.
  return name.replace(/^__+(.*?)__+$/, "_$1_");
}

function withNumber(name: string, taken: ReadonlySet<string>): string {
  if (!taken.has(name)) return name;
  let number = 2;
  while (taken.has(`${name}_${number}`)) number += 1;
  return `${name}_${number}`;
}
