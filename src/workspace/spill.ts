import type { FileHandle } from "node:fs/promises";
import type { WorkspaceFiles } from "./workspace-files.ts";

/** Directory of spilled outputs, relative to the workspace. */
export const SPILL_DIRECTORY = ".ipybox/out";

export interface SpillLimits {
  /** Older spills than the newest so many are removed. */
  readonly maxFiles: number;
  /** As are the oldest beyond this sum. */
  readonly maxBytes: number;
}

const DEFAULT_SPILL_LIMITS: SpillLimits = { maxFiles: 100, maxBytes: 2 * 1024 ** 3 };

/** A file in the workspace that takes a cell's whole output while it runs. Closing twice is the same as once. */
export class Spill implements AsyncDisposable {
  /** Relative to the workspace: `.ipybox/out/<id>.txt`. */
  readonly path: string;
  readonly #file: FileHandle;
  #last: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /** Appends in the order of the calls; resolves when the text is written. Wait for it, or memory fills. */
  append(text: string): Promise<void> {
    const written = this.#last.then(() => this.#file.appendFile(text, "utf8"));
    this.#last = written.catch(() => undefined); // the caller of this append learns of it
    return written;
  }

  /** Waits for what was appended. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#last.then(() => this.#file.close());
    return this.#closing;
  }
}

/**
 * Opens the spill of a cell, `id` being unique in the workspace (lower-case letters, digits, hyphens), and removes the
 * oldest ones beyond the limits. Git is told to ignore the directory.
 */
export async function createSpill(
  files: WorkspaceFiles,
  id: string,
  limits: SpillLimits = DEFAULT_SPILL_LIMITS,
): Promise<Spill> {
  if (!/^[a-z0-9-]{1,64}$/.test(id)) throw new Error(`not an id of a spill: ${id}`);
  if ((await files.readFile(".ipybox/.gitignore", 4096).catch(() => undefined)) === undefined) {
    await files.writeFile(".ipybox/.gitignore", "*\n");
  }
  await removeOldSpills(files, { ...limits, maxFiles: limits.maxFiles - 1 });
  const path = `${SPILL_DIRECTORY}/${id}.txt`;
  return new Spill(path, await files.createFile(path));
}

async function removeOldSpills(files: WorkspaceFiles, limits: SpillLimits): Promise<void> {
  const spills = (await files.list(SPILL_DIRECTORY)).filter(
    ({ name, kind }) => kind === "file" && name.endsWith(".txt"),
  );
  spills.sort((a, b) => b.modifiedAtMs - a.modifiedAtMs);
  let bytes = 0;
  for (const [index, spill] of spills.entries()) {
    bytes += spill.bytes;
    if (index >= limits.maxFiles || bytes > limits.maxBytes) await files.remove(`${SPILL_DIRECTORY}/${spill.name}`);
  }
}
