import { type BigIntStats, lstatSync } from "node:fs";
import { basename, dirname, join, relative, sep } from "node:path";
import { setImmediate } from "node:timers/promises";
import { Deferred } from "../common/lifecycle.ts";
import type { Logger } from "../common/logger.ts";
import { oneLine } from "../common/one-line.ts";
import { withDirectory } from "./beneath.ts";
import { DirectorySweep } from "./directory-sweep.ts";
import { DirectoryWatch } from "./directory-watch.ts";
import type { ShieldRules } from "./shield-rules.ts";
import { findShieldedPaths, type ShieldedPaths } from "./shielded-paths.ts";
import { Walk } from "./walk.ts";
import { readWatchLimit } from "./watch-limit.ts";

/** Why a sandbox may see by now what it must not. */
export interface ShieldBreach {
  /** Relative to the workspace, fit for a line of text. */
  readonly path: string;
  /** A masked file is not the one any more that was covered, or a path came up that should be masked. */
  readonly what: "was replaced" | "appeared";
}

/**
 * Watches the masked and protected paths of one sandbox: mounts cover files, not names, and they fall when the host
 * puts another file in the place. What counts is what is found, whoever did it.
 */
export class ShieldWatcher implements Disposable {
  readonly #rules: ShieldRules;
  readonly #watch: DirectoryWatch;
  /** Of what the watch has no room for. */
  readonly #sweep = new DirectorySweep((directory) => this.#examine(directory));
  readonly #breached = new Deferred<ShieldBreach>();
  #breach: ShieldBreach | undefined;
  #shielded: ShieldedPaths = { masked: [], protected: [], complete: true };
  /** Device and inode of what is covered. */
  #covered: ReadonlyMap<string, string | undefined> = new Map();
  /** Paths that something happened to; env files and the like come first. */
  readonly #urgent = new Set<string>();
  readonly #others = new Set<string>();
  #work: Promise<void> | undefined;
  #changed = new Set<string>();
  /** Protected paths that the sandbox can write, and how each was when it was told of. */
  readonly #told = new Map<string, string | undefined>();
  #started = false;

  private constructor(rules: ShieldRules, logger: Logger, maxDirectories: number) {
    this.#rules = rules;
    this.#watch = new DirectoryWatch({
      onEvent: (directory, name, moved) => this.#onEvent(directory, name, moved),
      onFull: (reason) => logger.warn(UNWATCHED, { reason, remedy: REMEDY }),
      onUnwatched: (directory) => this.#sweep.add(directory),
      maxDirectories,
    });
  }

  /** Finds what is to be shielded, and watches from that moment on. Dispose it with the sandbox. */
  static async open(
    rules: ShieldRules,
    logger: Logger,
    { maxDirectories = readWatchLimit() }: { readonly maxDirectories?: number } = {},
  ): Promise<ShieldWatcher> {
    const watcher = new ShieldWatcher(rules, logger, maxDirectories);
    try {
      await watcher.#start();
      return watcher;
    } catch (error) {
      watcher[Symbol.dispose]();
      throw error;
    }
  }

  get shielded(): ShieldedPaths {
    return this.#shielded;
  }

  /** Resolves when a mask does not hold any more; nothing is watched from then on. */
  get breached(): Promise<ShieldBreach> {
    return this.#breached.promise;
  }

  get breach(): ShieldBreach | undefined {
    return this.#breach;
  }

  /** Looks at the masked files themselves, whatever was or was not heard of them, and begins to note changes anew. */
  async startCell(): Promise<void> {
    await this.#settle();
    for (const path of this.#shielded.masked) this.#checkMasked(path);
    this.#changed = new Set();
    if (this.#breach === undefined) this.#sweep.start();
  }

  /** Protected paths that the sandbox could write, and that were made or changed since {@link startCell}. */
  async changedInCell(): Promise<readonly string[]> {
    this.#sweep.stop();
    await this.#settle();
    return [...this.#changed].sort();
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#sweep[Symbol.dispose]();
    this.#urgent.clear();
    this.#others.clear();
  }

  async #start(): Promise<void> {
    this.#shielded = await findShieldedPaths(this.#rules, { onDirectory: (path) => this.#watch.add(path) });
    const covered = [...this.#shielded.masked, ...this.#shielded.protected];
    this.#covered = new Map(covered.map((path) => [path, identityOf(look(path))]));
    this.#started = true;
    this.#wake();
  }

  #onEvent(directory: string, name: string | undefined, moved: boolean): void {
    const path = name === undefined ? directory : join(directory, name);
    if (moved && this.#rules.masks(path)) this.#urgent.add(path);
    else if (moved ? this.#concerns(path) : this.#protectedRootOf(path) !== undefined) this.#others.add(path);
    else return;
    this.#wake();
  }

  /** Whether anything depends on what comes or goes at a path whose name is not masked. */
  #concerns(path: string): boolean {
    if (!this.#started || this.#rules.looksInto(path) || this.#protectedRootOf(path) !== undefined) return true;
    return this.#shielded.masked.some((masked) => isAtOrBelow(masked, path));
  }

  #wake(): void {
    if (!this.#started || this.#urgent.size + this.#others.size === 0) return;
    this.#work ??= this.#workOff().finally(() => (this.#work = undefined));
  }

  async #workOff(): Promise<void> {
    for (;;) {
      const [path] = this.#urgent.size > 0 ? this.#urgent : this.#others;
      if (path === undefined || this.#breach !== undefined) return;
      this.#urgent.delete(path);
      this.#others.delete(path);
      await this.#examine(path);
      await setImmediate(); // many events must hold up nobody
    }
  }

  /** What happened in the workspace before the call has been looked at when it resolves. */
  async #settle(): Promise<void> {
    // The system queues an event before the one who caused it goes on; the loop has read it by its next turn.
    await setImmediate();
    await this.#work;
    await this.#sweep.look();
  }

  async #examine(path: string): Promise<void> {
    const info = look(path);
    for (const masked of this.#shielded.masked) {
      if (isAtOrBelow(masked, path)) this.#checkMasked(masked);
    }
    this.#checkProtected(path);
    if (info === undefined) {
      this.#watch.remove(path);
      return;
    }
    await this.#checkMatch(path, info);
    if (info.isDirectory()) await this.#enter(path);
  }

  /** A directory is new, is another one than before, or had too many events to be followed. */
  async #enter(path: string): Promise<void> {
    const isUncovered = this.#uncoveredRootOf(path) !== undefined;
    const looksInto = (directory: string) =>
      this.#rules.looksInto(directory) ||
      (isUncovered && relative(path, directory).split(sep).length <= UNCOVERED_DEPTH);
    if (!looksInto(path)) return;
    const walk = new Walk(path, { looksInto, onDirectory: (directory) => this.#watch.add(directory) });
    for await (const { path: found, entry } of walk.entries()) {
      if (this.#breach !== undefined) return;
      await this.#checkMatch(found, entry);
      if (!this.#rules.protects(found)) continue;
      if (!this.#told.has(found) || this.#told.get(found) !== versionOf(look(found))) this.#checkProtected(found);
      // Of what is not covered, deeper directories are watched than the walk looks into.
      if (entry.isDirectory() && !this.#covered.has(found)) await this.#enter(found);
    }
  }

  #checkMasked(path: string): void {
    if (identityOf(look(path)) !== this.#covered.get(path)) this.#report(path, "was replaced");
  }

  async #checkMatch(path: string, entry: Parameters<ShieldRules["filesBehind"]>[1]): Promise<void> {
    if (!this.#rules.masks(path)) return;
    const files = await this.#rules.filesBehind(path, entry);
    const open = files.find((file) => !this.#shielded.masked.includes(file));
    if (open !== undefined) this.#report(open, "appeared");
  }

  #checkProtected(path: string): void {
    const root = this.#uncoveredRootOf(path);
    if (root === undefined) return;
    this.#told.set(root, versionOf(look(root)));
    this.#changed.add(this.#toText(root));
  }

  /** {@link #protectedRootOf}, if the sandbox can write there. */
  #uncoveredRootOf(path: string): string | undefined {
    const root = this.#protectedRootOf(path);
    const info = root === undefined ? undefined : look(root);
    if (root === undefined || info === undefined) return undefined;
    return this.#covered.has(root) && this.#covered.get(root) === identityOf(info) ? undefined : root;
  }

  /** The outermost protected name that a path has or lies below. */
  #protectedRootOf(path: string): string | undefined {
    let prefix = this.#rules.workspace;
    for (const name of relative(this.#rules.workspace, path).split(sep)) {
      prefix = join(prefix, name);
      if (this.#rules.protects(prefix)) return prefix;
    }
    return undefined;
  }

  #report(path: string, what: ShieldBreach["what"]): void {
    if (this.#breach !== undefined) return;
    this.#breach = { path: this.#toText(path), what };
    this.#breached.resolve(this.#breach);
    this[Symbol.dispose]();
  }

  #toText(path: string): string {
    return oneLine(relative(this.#rules.workspace, path));
  }
}

function isAtOrBelow(path: string, place: string): boolean {
  return path === place || path.startsWith(place + sep);
}

function look(path: string): BigIntStats | undefined {
  try {
    return withDirectory(dirname(path), (place) => lstatSync(join(place, basename(path)), { bigint: true }));
  } catch {
    return undefined;
  }
}

function identityOf(info: BigIntStats | undefined): string | undefined {
  return info && `${info.dev}:${info.ino}:${info.isFile() ? "file" : info.isDirectory() ? "directory" : "other"}`;
}

function versionOf(info: BigIntStats | undefined): string | undefined {
  return info && `${info.dev}:${info.ino}:${info.ctimeNs}`;
}

const UNWATCHED =
  "not every directory of the workspace is watched: the others are looked at in turn, so a new .env file is found later";
const REMEDY = "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances, or make the workspace smaller";
/** `.git/hooks/*` is two directories below where a repository appears. */
const UNCOVERED_DEPTH = 2;
