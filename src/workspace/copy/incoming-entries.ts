import { IpyboxError, systemCodeOf } from "../../common/errors.ts";
import type { CopyRules, Refusal } from "./copy-rules.ts";
import type { AnswerEntry, Entry, IncomingEntry, LeftReason } from "./entry-stream.ts";
import type { HostTree } from "./host-tree.ts";

/** What a sandbox's answer came to, beside what was applied without a word. Paths are its own: hostile text. */
export interface PullReport {
  /** Changed on both sides: the host's stayed; where the sandbox's was written, if it was not removed there. */
  readonly conflicts: readonly { readonly path: string; readonly beside: string | undefined }[];
  readonly left: readonly { readonly path: string; readonly why: LeftReason | Refusal | "in-the-way" }[];
  /** False when the sandbox has more files than are looked at. */
  readonly complete: boolean;
}

export interface AnswerLimits {
  readonly maxEntries: number;
  readonly maxFileBytes: number;
  readonly maxBytes: number;
}

export interface IncomingOptions {
  readonly tree: HostTree;
  readonly rules: CopyRules;
  /** By path, the host's signature of what both sides have; kept up to date. */
  readonly agreed: Map<string, string>;
  readonly limits: AnswerLimits;
}

/**
 * Applies an answer to the host's files, entry by entry. What one path can't take is reported and the rest goes on;
 * rejects when the answer is cut off, malformed or larger than the limits, and when the disk is full.
 */
export async function applyAnswer(answer: AsyncIterable<IncomingEntry>, options: IncomingOptions): Promise<PullReport> {
  const applier = new Applier(options);
  for await (const { entry, content } of answer) await applier.take(entry, content);
  return applier;
}

class Applier implements PullReport {
  readonly conflicts: { path: string; beside: string | undefined }[] = [];
  readonly left: { path: string; why: PullReport["left"][number]["why"] }[] = [];
  complete = true;
  readonly #options: IncomingOptions;
  #entries = 0;
  #bytes = 0;

  constructor(options: IncomingOptions) {
    this.#options = options;
  }

  async take(entry: AnswerEntry, content: AsyncIterable<Buffer>): Promise<void> {
    this.#count(entry);
    switch (entry.type) {
      case "end":
        this.complete = entry.complete;
        return;
      case "left":
        this.left.push(entry);
        return;
      case "gone":
        if (this.#options.rules.refusalOf(entry.path) === undefined)
          await this.#atItsPlace(entry.path, () => this.#remove(entry.path));
        return;
      case "directory":
      case "file":
      case "link": {
        const why = this.#refusalOf(entry);
        if (why === undefined) await this.#atItsPlace(entry.path, () => this.#make(entry, content));
        else this.left.push({ path: entry.path, why });
      }
    }
  }

  #count(entry: AnswerEntry): void {
    const { maxEntries, maxFileBytes, maxBytes } = this.#options.limits;
    const bytes = entry.type === "file" ? entry.size : 0;
    this.#entries += 1;
    this.#bytes += bytes;
    // What is gone comes on top of what is there.
    if (this.#entries > 2 * maxEntries + 1 || this.#bytes > maxBytes || bytes > maxFileBytes) {
      throw new Error("the sandbox sends more than it was asked for");
    }
  }

  #refusalOf(entry: Entry): Refusal | undefined {
    const { rules } = this.#options;
    const refusal = rules.refusalOf(entry.path);
    return refusal ?? (entry.type === "link" ? rules.refusalOfLink(entry.path, entry.target) : undefined);
  }

  async #atItsPlace(path: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (!isOfThePlace(error)) throw error;
      this.left.push({ path, why: "in-the-way" });
    }
  }

  /** Nothing but what both sides had, and what is still as it was then. */
  async #remove(path: string): Promise<void> {
    const { tree, agreed } = this.#options;
    const here = await tree.look(path);
    const before = agreed.get(path);
    if (here !== undefined && before !== undefined) {
      if (here.signature === before) await tree.remove(path, here.kind);
      else this.conflicts.push({ path, beside: undefined });
    }
    agreed.delete(path);
  }

  async #make(entry: Exclude<Entry, { type: "gone" }>, content: AsyncIterable<Buffer>): Promise<void> {
    const { tree, agreed } = this.#options;
    const { path } = entry;
    if (entry.type === "directory") {
      await tree.makeDirectory(path);
    } else {
      const isAsAgreed = (await tree.look(path))?.signature === agreed.get(path);
      const place = isAsAgreed ? path : await this.#freePathBeside(path);
      if (entry.type === "link") await tree.makeLink(place, entry.target);
      else await tree.writeFile(place, content, entry);
      if (!isAsAgreed) {
        this.conflicts.push({ path, beside: place });
        return;
      }
    }
    const made = await tree.look(path);
    if (made !== undefined) agreed.set(path, made.signature);
  }

  async #freePathBeside(path: string): Promise<string> {
    for (let number = 1; number <= MAX_BESIDE; number += 1) {
      const place = `${path}.from-sandbox${number === 1 ? "" : `-${number}`}`;
      if ((await this.#options.tree.look(place)) === undefined) return place;
    }
    throw new NoFreePath();
  }
}

class NoFreePath extends Error {}

/** Whether an error concerns one path alone, not the disk or the answer as a whole. */
function isOfThePlace(error: unknown): boolean {
  if (error instanceof IpyboxError) return error.code === "invalid-workspace";
  return error instanceof NoFreePath || PLACE_ERRORS.has(systemCodeOf(error) ?? "");
}

const PLACE_ERRORS = new Set([
  ...["EACCES", "EEXIST", "EILSEQ", "EINVAL", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENOENT", "ENOTDIR", "EPERM"],
]);
const MAX_BESIDE = 100;
