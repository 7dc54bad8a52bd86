import type { FileHandle } from "node:fs/promises";
import type { CopyRules } from "./copy-rules.ts";
import type { OutgoingEntry } from "./entry-stream.ts";
import type { HostEntry, HostTree } from "./host-tree.ts";

/** What became of each path that was sent: its signature on the host; undefined where it is gone. */
export type Sent = Map<string, string | undefined>;

export interface Differences {
  readonly gone: readonly string[];
  readonly changed: readonly (readonly [path: string, entry: HostEntry])[];
}

export interface OutgoingOptions {
  readonly tree: HostTree;
  readonly rules: CopyRules;
  /** Files beyond it are left for the next time. */
  readonly maxBytes: number;
}

/** Reads what a sandbox is to have, and notes in `sent` what was. A file that vanishes or can't be read is left out. */
export async function* outgoingEntries(
  { gone, changed }: Differences,
  sent: Sent,
  { tree, rules, maxBytes }: OutgoingOptions,
): AsyncGenerator<OutgoingEntry, void, undefined> {
  for (const path of gone) {
    sent.set(path, undefined);
    yield { entry: { type: "gone", path } };
  }
  let room = maxBytes;
  for (const [path, { kind, signature, bytes }] of changed) {
    if (bytes > room) continue;
    room -= bytes;
    if (kind === "directory") {
      yield { entry: { type: "directory", path } };
    } else if (kind === "link") {
      const target = await tree.readLink(path).catch(() => undefined);
      if (target === undefined || rules.refusalOfLink(path, target) !== undefined) continue;
      yield { entry: { type: "link", path, target } };
    } else {
      const opened = await tree.openFile(path).catch(() => undefined);
      if (opened === undefined) continue;
      await using file = opened.file;
      const { mode, mtimeMs, bytes: size } = opened;
      yield { entry: { type: "file", path, mode, mtimeMs, size }, content: exactly(size, file) };
    }
    sent.set(path, signature);
  }
}

/** As many bytes as were announced, also of a file that shrinks: it has then changed again, and is sent once more. */
async function* exactly(size: number, file: FileHandle): AsyncGenerator<Buffer, void, undefined> {
  for (let missing = size; missing > 0;) {
    const length = Math.min(missing, PIECE_BYTES);
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, null);
    const piece = bytesRead === 0 ? buffer : buffer.subarray(0, bytesRead);
    missing -= piece.length;
    yield piece;
  }
}

const PIECE_BYTES = 256 * 1024;
