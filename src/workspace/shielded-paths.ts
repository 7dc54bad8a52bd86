import { constants, type Dirent } from "node:fs";
import { open, readdir, realpath, stat } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { matchesGlob } from "./glob.ts";
import { isWithin } from "./dangerous-directories.ts";

export interface ShieldOptions {
  /** Globs of `--mask`: without a slash they match names at any depth, with one paths relative to the workspace. */
  readonly mask: readonly string[];
  /** Paths of `--protect` and `--unprotect`, absolute or relative to the workspace. */
  readonly protect: readonly string[];
  readonly unprotect: readonly string[];
}

export interface ShieldedPaths {
  /** Files that must read as empty in the sandbox; real paths. */
  readonly masked: readonly string[];
  /** Files and directories that must be read-only in the sandbox; real paths. */
  readonly protected: readonly string[];
  /** False when the workspace has too many entries to look at all of them: deep ones were left out. */
  readonly complete: boolean;
}

/**
 * Finds what a sandbox must not read or change in `workspace` (its real path). Links are not followed on the way; a
 * masked name that is a link masks the file it leads to, if that lies in the workspace. What cells put there makes it
 * slow at most to a bound.
 */
export async function findShieldedPaths(workspace: string, options: ShieldOptions): Promise<ShieldedPaths> {
  const lifted = new Set(options.unprotect.map((path) => resolve(workspace, path)));
  const masked = new Set<string>();
  const shielded = new Set<string>();
  const walk = new Walk(workspace, options.mask.length > 0 ? MASK_DEPTH : NAME_DEPTH);
  for await (const { path, depth, entry } of walk.entries()) {
    if (lifted.has(path)) continue;
    const inside = relative(workspace, path);
    const byGlob = options.mask.some((glob) => matchesGlob(glob, inside));
    const byName = depth <= NAME_DEPTH && isEnvFileName(entry.name) && !entry.isDirectory();
    if (byGlob || byName) for (const file of await filesToMask(path, entry, workspace)) masked.add(file);
    else if (isProtectedName(entry.name, depth) && !entry.isSymbolicLink()) shielded.add(path);
  }
  for (const path of options.protect.map((path) => resolve(workspace, path))) {
    const real = await realpath(path).catch(() => undefined);
    if (real !== undefined && real !== workspace && isWithin(real, workspace) && !lifted.has(path)) shielded.add(real);
  }
  return { masked: [...masked].sort(), protected: [...shielded].sort(), complete: walk.complete };
}

/** `.env` and `.env.*`, but for the examples that projects publish. */
export function isEnvFileName(name: string): boolean {
  return name === ".env" || (name.startsWith(".env.") && !ENV_EXAMPLES.has(name));
}

function isProtectedName(name: string, depth: number): boolean {
  return name === ".git" ? depth <= NAME_DEPTH : depth === 0 && PROTECTED_IN_ROOT.has(name);
}

/** The files behind a match: itself, the target of a link, everything in a directory. */
async function filesToMask(path: string, entry: Dirent, workspace: string): Promise<string[]> {
  if (entry.isDirectory()) {
    const files: string[] = [];
    for await (const inner of new Walk(path, MASK_DEPTH).entries()) {
      if (!inner.entry.isDirectory() && !inner.entry.isSymbolicLink()) files.push(inner.path);
    }
    return files;
  }
  if (!entry.isSymbolicLink()) return [path];
  const target = await realpath(path).catch(() => undefined);
  if (target === undefined || !isWithin(target, workspace)) return []; // nothing of it is visible in the sandbox
  return (await stat(target)).isDirectory() ? [] : [target];
}

interface Found {
  readonly path: string;
  /** 0 for what lies in the root itself. */
  readonly depth: number;
  readonly entry: Dirent;
}

/** A walk that goes broad before deep, follows no link and looks at a bounded number of entries. */
class Walk {
  complete = true;
  readonly #root: string;
  readonly #maxDepth: number;

  constructor(root: string, maxDepth: number) {
    this.#root = root;
    this.#maxDepth = maxDepth;
  }

  async *entries(): AsyncGenerator<Found> {
    let seen = 0;
    const queue = [{ path: this.#root, depth: 0 }];
    for (const directory of queue) {
      for (const entry of await readDirectory(directory.path)) {
        if (++seen > MAX_ENTRIES) {
          this.complete = false;
          return;
        }
        const path = join(directory.path, entry.name);
        yield { path, depth: directory.depth, entry };
        const descends = entry.isDirectory() && directory.depth < this.#maxDepth && !NOT_WALKED.has(entry.name);
        if (descends) queue.push({ path, depth: directory.depth + 1 });
      }
    }
  }
}

/** What is in a directory that is still no link; nothing when it can't be read. */
async function readDirectory(path: string): Promise<Dirent[]> {
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    const place = process.platform === "linux" ? `/proc/self/fd/${handle.fd}` : path;
    return await readdir(place, { withFileTypes: true });
  } catch {
    return [];
  }
}

const NAME_DEPTH = 3;
const MASK_DEPTH = 12;
const MAX_ENTRIES = 100_000;
const NOT_WALKED = new Set([".git", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".ipybox"]);
const ENV_EXAMPLES = new Set([".env.example", ".env.sample", ".env.template"]);
/** What programs on the host read or run when they meet it. */
const PROTECTED_IN_ROOT = new Set([
  ...[".claude", ".vscode", ".idea", ".cursor", ".devcontainer", ".husky", ".github"],
  ...[".mcp.json", "CLAUDE.md", "AGENTS.md", ".envrc"],
]);
