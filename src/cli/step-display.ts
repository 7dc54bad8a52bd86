import { formatDuration } from "../common/time.ts";
import { stripControls } from "../common/logger.ts";

interface Step {
  readonly message: string;
  readonly step?: { readonly current: number; readonly total: number };
}

const BAR_WIDTH = 24;

/** Shows how far something long has come: one line that changes on a terminal, a line per step elsewhere. */
export class StepDisplay implements Disposable {
  readonly #stream: NodeJS.WriteStream;
  readonly #startedAt = Date.now();
  readonly #timer: NodeJS.Timeout | undefined;
  #last: Step = { message: "" };

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    if (stream.isTTY) this.#timer = setInterval(() => this.#redraw(), 500);
  }

  show(step: Step): void {
    // Lines between two steps keep the bar of the step that they belong to.
    const bar = step.step ?? this.#last.step;
    this.#last = { message: stripControls(step.message), ...(bar === undefined ? {} : { step: bar }) };
    if (this.#stream.isTTY) this.#redraw();
    else if (step.step !== undefined)
      this.#stream.write(`[${step.step.current}/${step.step.total}] ${this.#last.message}\n`);
    else this.#stream.write(`${this.#last.message}\n`);
  }

  /** Clears the changing line. */
  finish(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#stream.write("\r\u001b[K");
  }

  #redraw(): void {
    const { message, step } = this.#last;
    if (message === "") return;
    const elapsed = formatDuration(Math.round((Date.now() - this.#startedAt) / 1000) * 1000);
    const bar = step === undefined ? "" : `${drawBar(step.current / step.total)} `;
    const room = Math.max(20, this.#stream.columns - bar.length - elapsed.length - 3);
    this.#stream.write(`\r\u001b[K${bar}${elapsed}  ${message.slice(0, room)}`);
  }
}

function drawBar(share: number): string {
  const filled = Math.round(Math.min(1, share) * BAR_WIDTH);
  return `${"█".repeat(filled)}${"░".repeat(BAR_WIDTH - filled)}`;
}
