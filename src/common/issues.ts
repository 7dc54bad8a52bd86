/** The shape of a ZodError of any version. */
interface Issues {
  readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[];
}

/** What is wrong with a value, each with its place in it: `a.b.0: must be text`. `whole` names the value itself. */
export function describeIssues({ issues }: Issues, whole: string): string[] {
  return issues.map(({ path, message }) => `${path.map(String).join(".") || whole}: ${message}`);
}
