import { type Dirent, opendirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { withDirectory } from "./beneath.ts";

/** An entry of a directory, or what lstat says of one. */
export type EntryKind = Pick<Dirent, "isDirectory" | "isSymbolicLink">;

export interface Found {
  readonly path: string;
  readonly entry: Dirent;
}

export interface WalkOptions {
  /** Whether a directory is to be looked into; the root is in any case. */
  readonly looksInto: (directory: string) => boolean;
  /** Called with each directory right before it is read: what changes in it afterwards can be watched for. */
  readonly onDirectory?: (path: string) => void;
}

/**
 * A walk that goes broad before deep, leaves the directories of tools for the end, follows no link and looks at a
 * bounded number of entries. `root` is a path without links.
 */
export class Walk {
  complete = true;
  readonly #root: string;
  readonly #options: WalkOptions;

  constructor(root: string, options: WalkOptions) {
    this.#root = root;
    this.#options = options;
  }

  async *entries(): AsyncGenerator<Found> {
    let left = MAX_ENTRIES;
    let turnStartedAt = performance.now();
    const ordinary = [this.#root];
    const last: string[] = [];
    for (const queue of [ordinary, last]) {
      for (const directory of queue) {
        if (performance.now() - turnStartedAt > MAX_TURN_MS) {
          await setImmediate(); // reading many directories must hold up nobody
          turnStartedAt = performance.now();
        }
        this.#options.onDirectory?.(directory);
        for (const entry of readDirectory(directory, left + 1)) {
          if (left-- === 0) {
            this.complete = false;
            return;
          }
          const path = join(directory, entry.name);
          yield { path, entry };
          if (!entry.isDirectory() || !this.#options.looksInto(path)) continue;
          (isToolDirectory(entry.name) ? last : queue).push(path);
        }
      }
    }
  }
}

/** True for directories that tools fill: large, and hardly anything in them is a project's own. */
export function isToolDirectory(name: string): boolean {
  return TOOL_DIRECTORIES.has(name);
}

/**
 * At most `maxEntries` of what is in a directory; nothing when it can't be read or a link leads there. In one go, which
 * takes a sixth of the time that handing each step to a thread does.
 */
function readDirectory(path: string, maxEntries: number): Dirent[] {
  try {
    return withDirectory(path, (place) => {
      const directory = opendirSync(place);
      const entries: Dirent[] = [];
      try {
        for (let entry = directory.readSync(); entry !== null && entries.length < maxEntries;) {
          entries.push(entry);
          entry = directory.readSync();
        }
      } finally {
        directory.closeSync();
      }
      return entries;
    });
  } catch {
    return [];
  }
}

const MAX_ENTRIES = 100_000;
const MAX_TURN_MS = 10;
const TOOL_DIRECTORIES = new Set([
  ...[".git", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".ipybox"],
]);
