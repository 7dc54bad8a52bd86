import type { KernelMessage } from "./messages.ts";

/** What a cell started may go on without end: of what it shows between two cells so much is kept, the newest. */
const MAX_LATE_BYTES = 2 ** 20;

/** What threads, tasks and background processes show while no cell runs: the next one's answer begins with it. */
export class LateOutput {
  #messages: KernelMessage[] = [];
  #bytes = 0;
  #isWhole = true;

  /** Whether a message is output, which its reader misses wherever it comes from; what only changes earlier output is not. */
  static admits({ channel, type }: KernelMessage): boolean {
    return channel === "iopub" && (type === "stream" || type === "display_data");
  }

  add(message: KernelMessage): void {
    this.#messages.push(message);
    this.#bytes += message.size;
    while (this.#bytes > MAX_LATE_BYTES) {
      this.#isWhole = false;
      this.#bytes -= this.#messages.shift()?.size ?? 0;
    }
  }

  /** All of it, once. */
  take(): KernelMessage[] {
    const messages = this.#isWhole ? this.#messages : [LEFT_OUT, ...this.#messages];
    this.#messages = [];
    this.#bytes = 0;
    this.#isWhole = true;
    return messages;
  }
}

const LEFT_OUT: KernelMessage = {
  channel: "iopub",
  id: "",
  type: "stream",
  parentId: "",
  content: { name: "stdout", text: "[Since the last cell more than 1 MB was printed: the end follows]\n" },
  size: 0,
};
