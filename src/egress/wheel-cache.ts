import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, stat, unlink, utimes, type FileHandle } from "node:fs/promises";
import { join } from "node:path";

export interface WheelCacheOptions {
  /** In the state directory: nothing in a sandbox sees it. Made when needed. */
  readonly directory: string;
  /** Least recently used files go when there is more. */
  readonly maxBytes: number;
  /** Whether too little is free on the disk of the directory to keep anything more there. */
  readonly isDiskLow: () => Promise<boolean>;
}

/**
 * Files of package indexes, shared by all workspaces. A file enters only when its content has the SHA-256 that the
 * index named, so no installer and no broken download can put anything wrong into it.
 */
export class WheelCache {
  readonly #options: WheelCacheOptions;

  constructor(options: WheelCacheOptions) {
    this.#options = options;
  }

  /** The open file and its size, or undefined when it is not there. The caller closes it. */
  async open(url: URL, sha256: string): Promise<{ readonly file: FileHandle; readonly size: number } | undefined> {
    const path = this.#pathOf(url, sha256);
    const file = await open(path, "r").catch(() => undefined);
    if (file === undefined) return undefined;
    const now = new Date();
    await utimes(path, now, now).catch(() => undefined); // only the order of removal depends on it
    return { file, size: (await file.stat()).size };
  }

  /** A place for a download; nothing is visible before `commit`. */
  async begin(url: URL, sha256: string): Promise<CacheEntry> {
    await mkdir(this.#options.directory, { recursive: true, mode: 0o700 });
    const temporary = join(this.#options.directory, `.${randomBytes(8).toString("hex")}.part`);
    const file = await open(temporary, "wx", 0o600);
    return new CacheEntry({
      file,
      temporary,
      path: this.#pathOf(url, sha256),
      sha256,
      isDiskLow: this.#options.isDiskLow,
    });
  }

  /** Removes the least recently used files beyond the limit, and parts that dead servers left. */
  async trim(): Promise<void> {
    const names = await readdir(this.#options.directory).catch(() => []);
    const found = await Promise.all(
      names.map(async (name) => {
        const path = join(this.#options.directory, name);
        const info = await stat(path).catch(() => undefined);
        return info && { path, size: info.size, usedAtMs: info.mtimeMs, part: name.endsWith(".part") };
      }),
    );
    const files = found.filter((file) => file !== undefined).sort((a, b) => b.usedAtMs - a.usedAtMs);
    let total = 0;
    for (const file of files) {
      total += file.size;
      const abandoned = file.part && Date.now() - file.usedAtMs > ABANDONED_AFTER_MS;
      if (abandoned || (!file.part && total > this.#options.maxBytes)) await unlink(file.path).catch(() => undefined);
    }
  }

  #pathOf(url: URL, sha256: string): string {
    return join(this.#options.directory, createHash("sha256").update(`${url.href}\n${sha256}`).digest("hex"));
  }
}

interface CacheEntryOptions {
  readonly file: FileHandle;
  readonly temporary: string;
  readonly path: string;
  readonly sha256: string;
  readonly isDiskLow: () => Promise<boolean>;
}

/**
 * A download on its way into the cache. Exactly one of `commit` and `abort` ends it. A disk that is almost full keeps
 * nothing of it: a build may ask for any number of files at once.
 */
export class CacheEntry {
  readonly #options: CacheEntryOptions;
  readonly #hash = createHash("sha256");
  #bytesUntilLook = 0;
  #kept = true;

  constructor(options: CacheEntryOptions) {
    this.#options = options;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#bytesUntilLook -= chunk.byteLength;
    if (this.#kept && this.#bytesUntilLook < 0) {
      this.#bytesUntilLook = LOOK_BYTES;
      if (await this.#options.isDiskLow()) await this.abort();
    }
    if (this.#kept) await this.#options.file.writeFile(chunk); // appends; `write` may write a part only
  }

  /** False, and nothing cached, when the content has another hash. */
  async commit(): Promise<boolean> {
    const matches = this.#hash.digest("hex") === this.#options.sha256;
    if (!matches) await this.abort();
    if (!matches || !this.#kept) return matches;
    await this.#options.file.close();
    await rename(this.#options.temporary, this.#options.path);
    return true;
  }

  /** Twice is the same as once. */
  async abort(): Promise<void> {
    if (!this.#kept) return;
    this.#kept = false;
    await this.#options.file.close();
    await unlink(this.#options.temporary);
  }
}

/** Between two looks at the disk. */
const LOOK_BYTES = 16e6;
const ABANDONED_AFTER_MS = 3_600_000;
