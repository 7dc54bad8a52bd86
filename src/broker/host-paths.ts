import { readlinkSync } from "node:fs";
import { delimiter, dirname, isAbsolute, join, parse, sep } from "node:path";

const MAX_LINKS = 40;

/**
 * Whether reading `path` passes through one of `roots`, which are real paths: it lies in one, or some link on the way
 * does. Such a path means whatever a cell wants it to mean. The path need not exist.
 */
export function passesThrough(path: string, roots: readonly string[]): boolean {
  let current = parse(path).root;
  let links = 0;
  const pending = path.slice(current.length).split(sep);
  for (let name = pending.shift(); name !== undefined; name = pending.shift()) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      current = dirname(current);
      continue;
    }
    const next = join(current, name);
    if (isWithinAny(next, roots)) return true;
    const target = linkTarget(next);
    if (target === undefined) {
      current = next;
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) return true; // nothing can be read through a loop; calling it safe would be a guess
    if (isAbsolute(target)) current = parse(target).root;
    pending.unshift(...target.slice(isAbsolute(target) ? current.length : 0).split(sep));
  }
  return false;
}

/**
 * A PATH without its relative entries and without those that pass through `roots`: programs looked up in what is left
 * can't have been planted by a cell.
 */
export function cleanPath(path: string, roots: readonly string[]): string {
  return path
    .split(delimiter)
    .filter((entry) => isAbsolute(entry) && !passesThrough(entry, roots))
    .join(delimiter);
}

function isWithinAny(path: string, roots: readonly string[]): boolean {
  return roots.some((root) => path === root || path.startsWith(root.endsWith(sep) ? root : root + sep));
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined; // no link, or not there
  }
}
