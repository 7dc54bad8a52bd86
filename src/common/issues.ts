/** The shape of a ZodError of any version. */
interface Issues {
  readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[];
}

/** What is wrong with a value, each with its place in it: `a.b.0: must be text`. `whole` names the value itself. */
export function describeIssues({ issues }: Issues, whole: string): string[] {
  return issues.map(({ path, message }) => `${path.map(String).join(".") || whole}: ${inWords(message)}`);
}

/** Zod's names of types are JavaScript's, and its own. */
function inWords(message: string): string {
  const [, expected = "", received = ""] = /^Invalid input: expected (\w+), received (\w+)$/.exec(message) ?? [];
  if (expected === "") return message;
  if (received === "undefined") return "is missing";
  return `must be ${TYPES[expected] ?? expected}, not ${received === "number" ? "this number" : (TYPES[received] ?? received)}`;
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
