import { sep } from "node:path";

/**
 * Whether a path relative to a root matches a glob: `*` and `?` within a component, `**` across components. A glob
 * without a slash matches the last component at any depth; a leading or trailing slash is ignored. On Windows, where
 * `separator` is a backslash, both may have it in the place of slashes.
 */
export function matchesGlob(glob: string, path: string, separator: string = sep): boolean {
  const place = path.replaceAll(separator, "/");
  const trimmed = glob.replaceAll(separator, "/").replace(/^\.?\/+|\/+$/g, "");
  if (trimmed.includes("/")) return toPattern(trimmed).test(place);
  return toPattern(trimmed).test(place.slice(place.lastIndexOf("/") + 1));
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
