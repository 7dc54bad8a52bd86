/** The shape of a ZodError of any version. */
interface Issues {
  readonly issues: readonly {
    readonly path: readonly PropertyKey[];
    readonly message: string;
    readonly input?: unknown;
  }[];
}

const MAX_SHOWN_CHARACTERS = 100;

/**
 * What is wrong with a value, each with its place in it: `a.b.0: must be text`. `whole` names the value itself. What was
 * given is told where it was parsed with `reportInput`, which is for those who gave it: it may be a secret.
 */
export function describeIssues({ issues }: Issues, whole: string): string[] {
  return issues.map(
    ({ path, message, input }) => `${path.map(String).join(".") || whole}: ${inWords(message, shown(input))}`,
  );
}

/** Zod's names of types are JavaScript's, and its own. */
function inWords(message: string, given: string | undefined): string {
  const [, expected = "", received = ""] = /^Invalid input: expected (\w+), received (\w+)$/.exec(message) ?? [];
  if (expected === "") return given === undefined ? message : `${message}, not ${given}`;
  if (received === "undefined") return "is missing";
  const instead = given ?? (received === "number" ? "this number" : (TYPES[received] ?? received));
  return `must be ${TYPES[expected] ?? expected}, not ${instead}`;
}

/** The value where it is short enough to be told as it is. */
function shown(value: unknown): string | undefined {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "string") return undefined;
  const cut = value.length > MAX_SHOWN_CHARACTERS ? `${value.slice(0, MAX_SHOWN_CHARACTERS)}…` : value;
  return JSON.stringify(cut);
}

const TYPES: Readonly<Record<string, string>> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "an object",
  record: "an object",
};
