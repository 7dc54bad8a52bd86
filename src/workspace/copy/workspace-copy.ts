import { z } from "zod";
import { IpyboxError } from "../../common/errors.ts";
import { readDiskSpace } from "../disk-space.ts";
import type { ShieldOptions } from "../shield-rules.ts";
import { CopyRules } from "./copy-rules.ts";
import { readAnswer, writeEntries } from "./entry-stream.ts";
import { type HostEntry, HostTree, type HostTreeOptions } from "./host-tree.ts";
import { type AnswerLimits, applyAnswer, type PullReport } from "./incoming-entries.ts";
import { outgoingEntries, type Sent } from "./outgoing-entries.ts";
import { type HostScan, scanHost } from "./scan-host.ts";

/** The sandbox's end; one request at a time. `applied` tells whether all of its last answer was. */
export interface CopyWire {
  readonly changes: (request: ChangesRequest, signal: AbortSignal) => Promise<AsyncIterable<Buffer>>;
  readonly receive: (entries: AsyncIterable<Buffer>, applied: boolean, signal: AbortSignal) => Promise<unknown>;
}

export interface ChangesRequest extends AnswerLimits {
  readonly applied: boolean;
}

export interface WorkspaceCopyOptions extends HostTreeOptions {
  /** Its real path. */
  readonly workspace: string;
  readonly shields: ShieldOptions;
  readonly wire: CopyWire;
  /** Of the copy, and of what crosses in one go, either way. */
  readonly limits?: AnswerLimits;
}

/**
 * Keeps the workspace and the copy of it that a sandbox works in the same, for engines that don't share this host's
 * files. A file that changed on both sides since they were the same is overwritten on neither.
 */
export class WorkspaceCopy implements AsyncDisposable {
  readonly #options: WorkspaceCopyOptions;
  readonly #tree: HostTree;
  readonly #rules: CopyRules;
  readonly #limits: AnswerLimits;
  /** By path, the host's signature of what both sides have. */
  readonly #agreed = new Map<string, string>();
  #applied = false;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(tree: HostTree, options: WorkspaceCopyOptions) {
    this.#tree = tree;
    this.#options = options;
    this.#rules = new CopyRules(options.workspace, options.shields);
    this.#limits = options.limits ?? COPY_LIMITS;
  }

  /** Fills an empty copy. Rejects with `invalid-workspace` when the workspace is too large for that. */
  static async open(options: WorkspaceCopyOptions, signal: AbortSignal): Promise<WorkspaceCopy> {
    const tree = await HostTree.open(options.workspace, options);
    try {
      const copy = new WorkspaceCopy(tree, options);
      const scan = await copy.#scan();
      refuseTooLarge(scan, copy.#limits);
      const refused = await copy.#push(scan, signal);
      if (refused > 0) throw notTaken(refused);
      return copy;
    } catch (error) {
      await tree[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Brings what changed on the host into the sandbox. What changed there as well waits for the next {@link pull}. */
  push(signal: AbortSignal): Promise<void> {
    return this.#inTurn(async () => {
      await this.#push(await this.#scan(), signal);
    });
  }

  /**
   * Brings what changed in the sandbox to the host. When it rejects, a part of it may have been applied; the next call
   * brings the rest.
   */
  pull(signal: AbortSignal): Promise<PullReport> {
    return this.#inTurn(async () => {
      const limits = { ...this.#limits, maxBytes: await this.#roomForAnswer() };
      const request = { ...limits, applied: this.#applied };
      this.#applied = false;
      const answer = readAnswer(await this.#options.wire.changes(request, signal));
      const report = await applyAnswer(answer, { tree: this.#tree, rules: this.#rules, agreed: this.#agreed, limits });
      this.#applied = true;
      return report;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
    await this.#tree[Symbol.asyncDispose]();
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  #scan(): Promise<HostScan> {
    return scanHost(this.#options.workspace, this.#tree, this.#rules, this.#limits.maxEntries);
  }

  /** Resolves to how many paths the sandbox refused. */
  async #push({ entries, complete }: HostScan, signal: AbortSignal): Promise<number> {
    // What is in a directory is gone before it.
    const gone = [...this.#agreed.keys()].filter((path) => complete && this.#isGone(path, entries.get(path)));
    const changed = [...entries].filter(([path, entry]) => entry.signature !== this.#agreed.get(path));
    if (gone.length + changed.length === 0) return 0;
    const sent: Sent = new Map();
    const outgoing = outgoingEntries({ gone: gone.sort().reverse(), changed }, sent, {
      tree: this.#tree,
      rules: this.#rules,
      maxBytes: this.#limits.maxBytes,
    });
    const answer = await this.#options.wire.receive(writeEntries(outgoing), this.#applied, signal);
    const refused = new Set(receivedShape.parse(answer).refused);
    for (const [path, signature] of sent) {
      if (refused.has(path)) continue;
      if (signature === undefined) this.#agreed.delete(path);
      else this.#agreed.set(path, signature);
    }
    return refused.size;
  }

  /** Not on the host any more, or another kind of thing by now. */
  #isGone(path: string, entry: HostEntry | undefined): boolean {
    return entry === undefined || this.#agreed.get(path)?.startsWith(entry.kind) !== true;
  }

  async #roomForAnswer(): Promise<number> {
    const { freeBytes, floorBytes } = await readDiskSpace(this.#options.workspace);
    return Math.max(0, Math.min(this.#limits.maxBytes, Math.floor(freeBytes - floorBytes)));
  }
}

/** Its own volume is full, or not its own. */
function notTaken(count: number): IpyboxError {
  return new IpyboxError("sandbox-start-failed", `The sandbox did not take ${count} files of the workspace`, {
    hint: "Look whether the disk of the container engine is full, then call again",
  });
}

function refuseTooLarge({ entries, tooMany }: HostScan, { maxEntries, maxBytes }: AnswerLimits): void {
  const bytes = [...entries.values()].reduce((sum, entry) => sum + entry.bytes, 0);
  if (!tooMany && bytes <= maxBytes) return;
  const what = tooMany ? `more than ${maxEntries} files` : `${Math.ceil(bytes / 2 ** 20)} MiB`;
  throw new IpyboxError(
    "invalid-workspace",
    `The workspace has ${what}, too much to be copied to an engine that does not share this host's files`,
    {
      hint: `At most ${maxEntries} files and ${maxBytes / 2 ** 20} MiB: give a narrower --workspace, leave directories out with --mask, or use an engine on this host`,
    },
  );
}

const receivedShape = z.object({ refused: z.array(z.string()) });
const COPY_LIMITS: AnswerLimits = { maxEntries: 50_000, maxFileBytes: 2 ** 30, maxBytes: 2 ** 31 };
