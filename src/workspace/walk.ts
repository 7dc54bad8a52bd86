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
    let turnEndsAt = 0;
    const ordinary = [this.#root];
    const last: string[] = [];
    for (const queue of [ordinary, last]) {
      for (const directory of queue) {
        if (performance.now() > turnEndsAt) turnEndsAt = await nextTurn();
        this.#options.onDirectory?.(directory);
        for (const entry of readDirectory(directory)) {
          if (left-- === 0) {
            this.complete = false;
            return;
          }
          if (performance.now() > turnEndsAt) turnEndsAt = await nextTurn();
          const path = join(directory, entry.name);
          yield { path, entry };
          if (!entry.isDirectory() || !this.#options.looksInto(path)) continue;
          (isToolDirectory(entry.name) ? last : queue).push(path);
        }
      }
    }
  }
}

/** Lets others work first: reading much must hold up nobody. Resolves to when this turn is over. */
async function nextTurn(): Promise<number> {
  await setImmediate();
  return performance.now() + MAX_TURN_MS;
}

/** True for directories that tools fill: large, and hardly anything in them is a project's own. */
export function isToolDirectory(name: string): boolean {
  return TOOL_DIRECTORIES.has(name);
}

/**
 * What is in a directory; nothing when it can't be read or a link leads there. Step by step: it may hold more than is good
 * to keep. Synchronously: that takes a sixth of the time that handing each step to a thread does.
 */
function* readDirectory(path: string): Generator<Dirent> {
  try {
    const directory = withDirectory(path, (place) => opendirSync(place));
    try {
      for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) yield entry;
    } finally {
      directory.closeSync();
    }
  } catch {
    // It is gone, or was never ours to read.
  }
}

/** Some seconds of work. */
const MAX_ENTRIES = 1_000_000;
const MAX_TURN_MS = 10;
const TOOL_DIRECTORIES = new Set([
  ...[".git", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".ipybox"],
]);
