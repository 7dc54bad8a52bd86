import { type FSWatcher, watch } from "node:fs";
import { dirname } from "node:path";
import { systemCodeOf } from "../common/errors.ts";
import { withDirectory } from "./beneath.ts";

export interface DirectoryWatchOptions {
  /**
   * An entry of a directory was made, removed or renamed (`moved`), or changed in itself. Without a name: too much
   * happened in that directory to tell, look at all of it.
   */
  readonly onEvent: (directory: string, name: string | undefined, moved: boolean) => void;
  /** Called once, when no further directory can be watched. */
  readonly onFull: (reason: string) => void;
  /** Called for each directory that can't be watched for want of room. */
  readonly onUnwatched: (directory: string) => void;
  readonly maxDirectories: number;
}

/**
 * Watches many directories, not what is below them. What happens there may be the work of hostile code: a directory
 * with too many events is let go for a moment and looked at as a whole then, so that the process stays responsive and
 * no event is waited for in vain. Keeps no process alive.
 */
export class DirectoryWatch implements Disposable {
  readonly #options: DirectoryWatchOptions;
  readonly #watchers = new Map<string, FSWatcher>();
  /** The directories in each one that were watched. */
  readonly #children = new Map<string, Set<string>>();
  readonly #tooBusy = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #windowStart = 0;
  #eventsInWindow = 0;
  #full = false;
  #disposed = false;

  constructor(options: DirectoryWatchOptions) {
    this.#options = options;
  }

  /** Watches `path`, anew if it is another directory by now. One that can't be opened is passed over. */
  add(path: string): void {
    if (this.#disposed || this.#tooBusy.has(path)) return;
    this.#close(path);
    if (this.#watchers.size >= this.#options.maxDirectories) {
      this.#giveUp(path, `they are more than ${this.#options.maxDirectories}`);
      return;
    }
    try {
      const watcher = withDirectory(path, (place) =>
        watch(place, { persistent: false }, (type, name) => this.#onEvent(path, name, type === "rename")),
      );
      this.#watchers.set(path, watcher);
      const siblings = this.#children.get(dirname(path)) ?? new Set();
      this.#children.set(dirname(path), siblings.add(path));
      watcher.on("error", () => {
        if (this.#watchers.get(path) === watcher) this.#close(path);
      });
    } catch (error) {
      const code = systemCodeOf(error);
      if (code === "ENOSPC") this.#giveUp(path, "the system admits no more watches");
      if (code === "EMFILE") this.#giveUp(path, "too many files or inotify instances are open");
    }
  }

  /** Lets go of `path` and of everything below it. */
  remove(path: string): void {
    for (const child of this.#children.get(path) ?? []) this.remove(child);
    this.#children.delete(path);
    this.#children.get(dirname(path))?.delete(path);
    this.#close(path);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    this.#children.clear();
  }

  #onEvent(directory: string, name: string | null, moved: boolean): void {
    const now = performance.now();
    if (now - this.#windowStart > WINDOW_MS) {
      this.#windowStart = now;
      this.#eventsInWindow = 0;
    }
    if (++this.#eventsInWindow > MAX_EVENTS_PER_WINDOW) this.#pause(directory);
    else this.#options.onEvent(directory, name ?? undefined, moved);
  }

  #pause(directory: string): void {
    this.#close(directory);
    this.#tooBusy.add(directory);
    this.#timer ??= setTimeout(() => this.#resume(), WINDOW_MS).unref();
  }

  #resume(): void {
    this.#timer = undefined;
    const directories = [...this.#tooBusy];
    this.#tooBusy.clear();
    for (const directory of directories) {
      this.add(directory); // first: what happens while it is looked at is an event again
      this.#options.onEvent(directory, undefined, true);
    }
  }

  #close(path: string): void {
    this.#watchers.get(path)?.close();
    this.#watchers.delete(path);
  }

  #giveUp(path: string, reason: string): void {
    if (!this.#full) this.#options.onFull(reason);
    this.#full = true;
    this.#options.onUnwatched(path);
  }
}

/** About 15 ms of work in each 100. */
const MAX_EVENTS_PER_WINDOW = 5000;
const WINDOW_MS = 100;
