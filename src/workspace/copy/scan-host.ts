import { realpath } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import type { CopyRules } from "./copy-rules.ts";
import type { HostEntry, HostTree } from "./host-tree.ts";

export interface HostScan {
  /** By path, directories before what is in them. */
  readonly entries: ReadonlyMap<string, HostEntry>;
  /** False when there is more than was looked at: what is missing here need not be gone. */
  readonly complete: boolean;
  readonly tooMany: boolean;
}

/** Everything on the host that may be in a copy. */
export async function scanHost(
  workspace: string,
  tree: HostTree,
  rules: CopyRules,
  maxEntries: number,
): Promise<HostScan> {
  const entries = new Map<string, HostEntry>();
  const masked = new Set<string>();
  const directories = [""];
  let complete = true;
  for (const directory of directories) {
    const names = await tree.list(directory).catch((error: unknown) => {
      if (directory === "") throw error;
      complete = false; // it can't be read, or is another thing by now
      return [];
    });
    for (const { name, ...entry } of names) {
      const path = directory === "" ? name : `${directory}/${name}`;
      if (entry.kind === "link" && rules.masks(path)) masked.add(await targetOf(workspace, path));
      if (entry.kind === "other" || rules.refusalOf(path) !== undefined) continue;
      if (entry.kind === "link" && (await isOutward(tree, rules, path))) continue;
      if (entries.size >= maxEntries) return { entries: without(masked, entries), complete: false, tooMany: true };
      entries.set(path, entry);
      if (entry.kind === "directory") directories.push(path);
    }
  }
  return { entries: without(masked, entries), complete, tooMany: false };
}

function without<T>(paths: ReadonlySet<string>, entries: Map<string, T>): ReadonlyMap<string, T> {
  for (const path of paths) entries.delete(path);
  return entries;
}

/** A masked name that is a link masks the file that it leads to. */
async function targetOf(workspace: string, path: string): Promise<string> {
  const target = await realpath(join(workspace, path)).catch(() => workspace);
  return relative(workspace, target).replaceAll(sep, "/");
}

async function isOutward(tree: HostTree, rules: CopyRules, path: string): Promise<boolean> {
  const target = await tree.readLink(path).catch(() => "/");
  return rules.refusalOfLink(path, target) !== undefined;
}
