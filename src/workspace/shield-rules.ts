import { realpath, stat } from "node:fs/promises";
import { basename, relative, resolve, sep } from "node:path";
import { IpyboxError } from "../common/errors.ts";
import { isWithin } from "./dangerous-directories.ts";
import { matchesGlob } from "./glob.ts";
import { type EntryKind, isToolDirectory, Walk } from "./walk.ts";

export interface ShieldOptions {
  /** Globs of `--mask`: without a slash they match names at any depth, with one paths of the workspace. */
  readonly mask: readonly string[];
  /** Paths of `--protect` and `--unprotect`, absolute or relative to the workspace. */
  readonly protect: readonly string[];
  readonly unprotect: readonly string[];
}

/** Which paths of a workspace are hidden from its sandboxes, and which are read-only in them. */
export class ShieldRules {
  readonly workspace: string;
  /** The paths of `--protect`, whether they exist or not. */
  readonly named: readonly string[];
  readonly #none: boolean;
  /** How deep masks and protections reach; 0 is the root. */
  readonly #maxDepth: number;
  readonly #mask: readonly string[];
  readonly #lifted: ReadonlySet<string>;

  /** `workspace` is its real path. Without options there are no rules: nothing is hidden, nothing read-only. */
  constructor(workspace: string, options: ShieldOptions | undefined) {
    const { mask, protect, unprotect } = options ?? { mask: [], protect: [], unprotect: [] };
    this.workspace = workspace;
    this.#none = options === undefined;
    this.#maxDepth = this.#none ? 0 : mask.length > 0 ? MASK_DEPTH : NAME_DEPTH;
    this.#mask = mask.map((glob) => (glob.startsWith(`${workspace}${sep}`) ? relative(workspace, glob) : glob));
    this.#lifted = new Set(unprotect.map((path) => resolve(workspace, path)));
    this.named = protect.map((path) => resolve(workspace, path)).filter((path) => !this.#lifted.has(path));
  }

  /** The directories above a path: 0 for what lies in the root. */
  depthOf(path: string): number {
    return relative(this.workspace, path).split(sep).length - 1;
  }

  /** Whether what lies in a directory of the workspace can be masked or protected. */
  looksInto(directory: string): boolean {
    const names = relative(this.workspace, directory).split(sep);
    return names.length <= (names.some(isToolDirectory) ? Math.min(NAME_DEPTH, this.#maxDepth) : this.#maxDepth);
  }

  /** Whether a path's name is one to be masked, if what it names can be. */
  masks(path: string): boolean {
    if (this.#none || this.#lifted.has(path)) return false;
    return this.#masksByGlob(path) || (isEnvFileName(basename(path)) && this.depthOf(path) <= NAME_DEPTH);
  }

  /** The files behind a masked name: itself, the target of a link, everything in a directory that a glob names. */
  async filesBehind(path: string, entry: EntryKind): Promise<string[]> {
    if (entry.isDirectory()) return this.#masksByGlob(path) ? await filesIn(path) : [];
    if (!entry.isSymbolicLink()) return [path];
    const target = await realpath(path).catch(() => undefined);
    if (target === undefined || !isWithin(target, this.workspace)) return []; // nothing of it is visible in the sandbox
    const info = await stat(target).catch(() => undefined);
    return info === undefined || info.isDirectory() ? [] : [target];
  }

  protects(path: string): boolean {
    if (this.#none || this.#lifted.has(path)) return false;
    if (this.named.includes(path)) return true;
    const name = basename(path).toLowerCase();
    if (name === ".git") return this.depthOf(path) <= NAME_DEPTH;
    return PROTECTED_IN_ROOT.has(name) && this.depthOf(path) === 0;
  }

  #masksByGlob(path: string): boolean {
    return this.#mask.some((glob) => matchesGlob(glob, relative(this.workspace, path)));
  }
}

/** Throws `invalid-configuration` for a path of `option` that is not below the workspace, as far as that is known. */
export function assertBelowWorkspace(option: string, path: string, workspace: string | undefined): void {
  if (workspace === undefined) return;
  const place = resolve(workspace, path);
  if (place !== workspace && isWithin(place, workspace)) return;
  throw new IpyboxError("invalid-configuration", `${option}: ${path} does not lie below the workspace`, {
    hint: "Give a path below the workspace, absolute or relative to it",
  });
}

/** `.env` and `.env.*`, but for the examples that projects publish. */
function isEnvFileName(name: string): boolean {
  const lower = name.toLowerCase();
  return lower === ".env" || (lower.startsWith(".env.") && !ENV_EXAMPLES.has(lower));
}

async function filesIn(directory: string): Promise<string[]> {
  const files: string[] = [];
  const looksInto = (path: string) => relative(directory, path).split(sep).length <= MASK_DEPTH;
  for await (const { path, entry } of new Walk(directory, { looksInto }).entries()) {
    if (!entry.isDirectory() && !entry.isSymbolicLink()) files.push(path);
  }
  return files;
}

const NAME_DEPTH = 3;
const MASK_DEPTH = 12;
const ENV_EXAMPLES = new Set([".env.example", ".env.sample", ".env.template"]);
/** What programs on the host read or run when they meet it. In any case: file systems of macOS and Windows ignore it. */
const PROTECTED_IN_ROOT = new Set([
  ...[".claude", ".vscode", ".idea", ".cursor", ".devcontainer", ".husky", ".github"],
  ...[".mcp.json", "claude.md", "agents.md", ".envrc"],
]);
