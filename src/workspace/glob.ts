/**
 * Whether a path relative to a root matches a glob: `*` and `?` within a component, `**` across components. A glob
 * without a slash matches the last component at any depth; a leading or trailing slash is ignored.
 */
export function matchesGlob(glob: string, path: string): boolean {
  const trimmed = glob.replace(/^\.?\/+|\/+$/g, "");
  if (trimmed.includes("/")) return toPattern(trimmed).test(path);
  return toPattern(trimmed).test(path.slice(path.lastIndexOf("/") + 1));
}

function toPattern(glob: string): RegExp {
  const source = glob.replace(/\*\*\/|\*\*|\*|\?|[\\^$.|+()[\]{}]/g, (token) => {
    switch (token) {
      case "**/":
        return "(?:[^/]+/)*";
      case "**":
        return ".*";
      case "*":
        return "[^/]*";
      case "?":
        return "[^/]";
      default:
        return `\\${token}`;
    }
  });
  return new RegExp(`^${source}$`, "u");
}
