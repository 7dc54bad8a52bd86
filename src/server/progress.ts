import { formatDuration } from "../common/time.ts";

const MIN_INTERVAL_MS = 100;
const HEARTBEAT_MS = 5_000;
const MAX_BURST_CHARS = 2_000;

/** Sends `notifications/progress` of one request; does nothing for requests without a progress token. */
export class ProgressReporter implements Disposable {
  #send: ((progress: number, message: string) => void) | undefined;
  readonly #startedAt = Date.now();
  readonly #heartbeat: NodeJS.Timeout | undefined;
  #flushTimer: NodeJS.Timeout | undefined;
  #pending = "";
  #status: string | undefined;
  #count = 0;
  #lastSentAt = 0;

  constructor(send: ((progress: number, message: string) => void) | undefined) {
    this.#send = send;
    if (send !== undefined) this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS / 5);
  }

  /** Whether the client listens, and so waits longer for an answer. */
  get active(): boolean {
    return this.#send !== undefined;
  }

  /** A step that people wait for, as a line of its own. */
  step(message: string): void {
    this.#flush();
    this.#emit(message);
  }

  /** Output as it comes: at most ten messages a second, and of a burst the end. */
  text(chunk: string): void {
    if (this.#send === undefined) return;
    this.#pending = (this.#pending + chunk).slice(-MAX_BURST_CHARS);
    this.#flushInTime();
  }

  /** How far something is, as a line of its own: of a burst the latest. */
  status(message: string): void {
    if (this.#send === undefined) return;
    this.#status = message;
    this.#flushInTime();
  }

  /** Call before the answer goes out: nothing is sent from then on, since progress after it would be a protocol error. */
  [Symbol.dispose](): void {
    clearInterval(this.#heartbeat);
    this.#flush();
    this.#send = undefined;
  }

  #beat(): void {
    // Clients reset their timeout on progress: silence would make them give up on a long cell.
    const silentMs = Date.now() - Math.max(this.#lastSentAt, this.#startedAt);
    if (silentMs >= HEARTBEAT_MS)
      this.#emit(`Running for ${formatDuration(Math.round((Date.now() - this.#startedAt) / 1000) * 1000)}`);
  }

  #flushInTime(): void {
    const waitMs = this.#lastSentAt + MIN_INTERVAL_MS - Date.now();
    if (waitMs <= 0) this.#flush();
    else this.#flushTimer ??= setTimeout(() => this.#flush(), waitMs);
  }

  #flush(): void {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    const parts = [this.#pending, this.#status ?? ""].filter((part) => part !== "");
    this.#pending = "";
    this.#status = undefined;
    if (parts.length > 0) this.#emit(parts.join("\n"));
  }

  #emit(message: string): void {
    this.#lastSentAt = Date.now();
    this.#count += 1;
    this.#send?.(this.#count, message);
  }
}
