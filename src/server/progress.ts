import { stripControls } from "../common/logger.ts";
import { formatDuration } from "../common/time.ts";

const MIN_INTERVAL_MS = 100;
/** For the rest of a line: Python's `print` writes the text and its newline one after the other. */
const LINE_REST_MS = 20;
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
    if (send !== undefined) this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
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

  /** Clients reset their timeout on progress: silence would make them give up on a long cell. */
  #beat(): void {
    this.#emit(`Running for ${formatDuration(Math.round((Date.now() - this.#startedAt) / 1000) * 1000)}`);
  }

  #flushInTime(): void {
    const isWhole = this.#pending === "" || this.#pending.endsWith("\n");
    const waitMs = Math.max(this.#lastSentAt + MIN_INTERVAL_MS - Date.now(), isWhole ? 0 : LINE_REST_MS);
    if (waitMs <= 0) this.#flush();
    else this.#flushTimer ??= setTimeout(() => this.#flushLines(), waitMs);
  }

  /** A line that has begun behind whole ones is left for the next message. */
  #flushLines(): void {
    const end = this.#pending.lastIndexOf("\n") + 1;
    const begun = end === 0 ? "" : this.#pending.slice(end);
    this.#pending = this.#pending.slice(0, this.#pending.length - begun.length);
    this.#flush();
    if (begun !== "") this.text(begun);
  }

  #flush(): void {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    const parts = [readable(this.#pending), this.#status ?? ""].filter((part) => part !== "");
    this.#pending = "";
    this.#status = undefined;
    if (parts.length > 0) this.#emit(parts.join("\n"));
  }

  #emit(message: string): void {
    if (this.#send === undefined) return;
    this.#heartbeat?.refresh();
    this.#lastSentAt = Date.now();
    this.#count += 1;
    this.#send(this.#count, message);
  }
}

/** Without control sequences, without half a character at the start; a progress bar's states are lines. */
function readable(text: string): string {
  return stripControls(text.replace(/^[\udc00-\udfff]/, "").replaceAll(/\r\n?/g, "\n"));
}
