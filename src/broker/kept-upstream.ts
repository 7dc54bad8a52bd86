import { IpyboxError, messageOf } from "../common/errors.ts";
import { formatDuration } from "../common/time.ts";
import { abortable } from "./abortable.ts";
import type { ServerParams } from "./server-params.ts";
import type { Upstream } from "./upstream.ts";

const FIRST_BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 30_000;

export interface KeptUpstreamOptions {
  readonly name: string;
  /** As registered. */
  readonly params: ServerParams;
  readonly connect: (signal: AbortSignal) => Promise<Upstream>;
  /** The connection that registration made. */
  readonly initial?: Upstream;
  /** Milliseconds of a clock that never goes back; for tests. */
  readonly now?: () => number;
}

/**
 * One registered server, connected when it is needed. A dead connection is made anew by the next call; a server that
 * fails again and again is left alone for a while between attempts, up to 30 s.
 */
export class KeptUpstream implements AsyncDisposable {
  readonly params: ServerParams;
  readonly #options: KeptUpstreamOptions;
  readonly #now: () => number;
  readonly #disposal = new AbortController();
  #current: Upstream | undefined;
  #connecting: Promise<Upstream> | undefined;
  /** Attempts and connections since the last successful call that came to nothing. */
  #failures = 0;
  #retryAt = 0;
  #lastFailure = "";

  constructor(options: KeptUpstreamOptions) {
    this.#options = options;
    this.params = options.params;
    this.#now = options.now ?? (() => performance.now());
    this.#current = options.initial;
  }

  /** The live connection, if there is one: the way of almost every call. */
  get live(): Upstream | undefined {
    return this.#current?.closed === false ? this.#current : undefined;
  }

  /**
   * The live connection, or a new one. Callers share an attempt; `signal` ends the waiting, not the attempt.
   *
   * @throws IpyboxError `upstream-unavailable` while backing off; whatever connecting throws.
   */
  async get(signal: AbortSignal): Promise<Upstream> {
    if (this.live) return this.live;
    if (!this.#connecting) {
      if (this.#current) this.failed("its connection was lost", this.#current);
      this.#checkBackoff();
      this.#connecting = this.#connect().finally(() => (this.#connecting = undefined));
    }
    const { name } = this.#options;
    return await abortable(this.#connecting, signal, () => {
      if (signal.reason instanceof IpyboxError) return signal.reason;
      return new IpyboxError("tool-cancelled", `The call of ${name} was cancelled`);
    });
  }

  /** A call came back: the server works. */
  succeeded(): void {
    this.#failures = 0;
  }

  /** A connection broke. The first time the next attempt may follow at once. */
  failed(why: string, upstream: Upstream): void {
    if (this.#current !== upstream) return;
    this.#current = undefined;
    this.#lastFailure = why;
    this.#failures += 1;
    this.#retryAt = this.#failures > 1 ? this.#now() + backoffMs(this.#failures - 1) : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposal.abort(new IpyboxError("tool-cancelled", `The MCP server ${this.#options.name} is being closed`));
    const upstream = this.#current ?? (await this.#connecting?.catch(() => undefined));
    await upstream?.[Symbol.asyncDispose]();
  }

  #checkBackoff(): void {
    const waitMs = this.#retryAt - this.#now();
    if (waitMs <= 0) return;
    const { name } = this.#options;
    throw new IpyboxError("upstream-unavailable", `The MCP server ${name} is down: ${this.#lastFailure}`, {
      hint: `It is started again by a call in ${formatDuration(Math.ceil(waitMs / 1000) * 1000)} or later.`,
    });
  }

  async #connect(): Promise<Upstream> {
    try {
      const upstream = await this.#options.connect(this.#disposal.signal);
      this.#current = upstream;
      return upstream;
    } catch (error) {
      this.#failures += 1;
      this.#retryAt = this.#now() + backoffMs(this.#failures);
      this.#lastFailure = messageOf(error);
      throw error;
    }
  }
}

function backoffMs(failures: number): number {
  return Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** (failures - 1));
}
