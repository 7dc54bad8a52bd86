import { realpath } from "node:fs/promises";
import { isWithin } from "./dangerous-directories.ts";
import type { ShieldRules } from "./shield-rules.ts";
import { Walk } from "./walk.ts";

export interface ShieldedPaths {
  /** Files that must read as empty in the sandbox; real paths. */
  readonly masked: readonly string[];
  /** Files and directories that must be read-only in the sandbox; real paths. */
  readonly protected: readonly string[];
  /** False when the workspace has too many entries to look at all of them: deep ones were left out. */
  readonly complete: boolean;
}

/**
 * Finds what a sandbox must not read or change. Links are not followed on the way; a masked name that is a link masks
 * the file it leads to, if that lies in the workspace. What cells put there makes it slow at most to a bound.
 */
export async function findShieldedPaths(
  rules: ShieldRules,
  options: { readonly onDirectory?: (path: string) => void } = {},
): Promise<ShieldedPaths> {
  const { workspace } = rules;
  const masked = new Set<string>();
  const shielded = new Set<string>();
  const walk = new Walk(workspace, { ...options, looksInto: (path) => rules.looksInto(path) });
  for await (const { path, entry } of walk.entries()) {
    const files = rules.masks(path) ? await rules.filesBehind(path, entry) : [];
    for (const file of files) masked.add(file);
    if (files.length === 0 && rules.protects(path) && !entry.isSymbolicLink()) shielded.add(path);
  }
  for (const path of rules.named) {
    const real = await realpath(path).catch(() => undefined);
    if (real !== undefined && real !== workspace && isWithin(real, workspace)) shielded.add(real);
  }
  return { masked: [...masked].sort(), protected: [...shielded].sort(), complete: walk.complete };
}
