import { Deferred } from "../common/lifecycle.ts";
import { type CellOutput, OutputFolder } from "./cell-output.ts";
import { executeReplyShape, type KernelMessage, outputShapes, statusShape } from "./messages.ts";

/** Why a kernel ended. */
export type DeathCause =
  | { readonly type: "exit"; readonly code: number }
  | { readonly type: "signal"; readonly signal: string }
  | { readonly type: "out-of-memory" }
  /** It sent more in one message than is taken in. */
  | { readonly type: "output-limit" }
  | { readonly type: "sandbox-end" }
  | { readonly type: "unknown" };

export type ExecutionResult =
  | { readonly status: "ok" | "error"; readonly executionCount: number | undefined; readonly output: CellOutput }
  | { readonly status: "died"; readonly cause: DeathCause; readonly output: CellOutput };

export interface ExecutionOptions {
  /** New output as it arrives, for streaming. */
  readonly onText?: (text: string) => void;
  /** Called once when more than this many bytes came, cleared ones included; what follows is dropped. */
  readonly maxOutputBytes: number;
  readonly onOutputLimit: () => void;
}

/** What a message costs us beside its content: a cell may show a million empty ones. */
const ITEM_BYTES = 64;
/** What an interrupt raises; the second in a cell that awaits. */
const INTERRUPTS: ReadonlySet<string> = new Set(["KeyboardInterrupt", "CancelledError"]);

/**
 * One cell in the kernel. It is done when both the reply (shell channel) and the idle state (iopub channel) have come:
 * Jupyter promises no order of the two, and output may come after the reply.
 */
export class Execution {
  readonly #folder: OutputFolder;
  readonly #options: ExecutionOptions;
  readonly #started = new Deferred<undefined>();
  readonly #done = new Deferred<ExecutionResult>();
  #reply: { status: "ok" | "error"; executionCount: number | undefined } | undefined;
  /** The reply's word of it, until the error itself has come: it does not where a cell took the means to show one. */
  #unshownError: readonly string[] = [];
  #hasError = false;
  #ended = false;
  #idle = false;
  #bytes = 0;
  #overLimit = false;
  #interrupting = false;

  constructor(options: ExecutionOptions) {
    this.#options = options;
    this.#folder = new OutputFolder(options.maxOutputBytes);
  }

  /** Never rejects: a kernel that dies is a result too. */
  get done(): Promise<ExecutionResult> {
    return this.#done.promise;
  }

  /** Whether all of it has come; `done` has it. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when the code begins to run; before that the kernel ignores interrupts. Never rejects. */
  get started(): Promise<undefined> {
    return this.#started.promise;
  }

  /** Output so far: what a cell that is given up on has shown. */
  get output(): CellOutput {
    return this.#folder.fold();
  }

  handle(message: KernelMessage): void {
    if (message.channel === "iopub") this.#handleOutput(message);
    else if (message.type === "execute_reply") this.#handleReply(message.content);
  }

  /** The cell is about to be interrupted by us: the traceback of that says nothing to the user. */
  expectInterrupt(): void {
    this.#interrupting = true;
  }

  /** The idle state came and the reply will not any more (see KernelConnection's fence). */
  giveUpOnReply(): void {
    this.#reply ??= { status: "error", executionCount: undefined };
    this.#settle();
  }

  /** The reply came and its idle state will not any more. */
  giveUpOnIdle(): void {
    this.#idle = true;
    this.#settle();
  }

  die(cause: DeathCause): void {
    this.#ended = true;
    this.#started.resolve(undefined);
    this.#done.resolve({ status: "died", cause, output: this.output });
  }

  #handleReply(content: unknown): void {
    const reply = executeReplyShape.safeParse(content);
    if (!reply.success) return;
    const { ename = "", evalue = "", traceback = [], execution_count } = reply.data;
    const status = reply.data.status === "ok" ? "ok" : "error";
    this.#reply = { status, executionCount: execution_count ?? undefined };
    if (ename !== "" && !this.#isOurs(ename))
      this.#unshownError = traceback.length > 0 ? traceback : [evalue === "" ? ename : `${ename}: ${evalue}`];
    this.#settle();
  }

  #handleOutput(message: KernelMessage): void {
    if (message.type === "status") {
      this.#idle ||= statusShape.safeParse(message.content).data?.execution_state === "idle";
      this.#settle();
      return;
    }
    if (message.type === "execute_input") this.#started.resolve(undefined);
    if (this.#overLimit) return;
    const added = this.#take(message);
    if (added !== "") this.#options.onText?.(added);
    if (Object.hasOwn(outputShapes, message.type)) this.#bytes += message.size + ITEM_BYTES;
    if (this.#bytes <= this.#options.maxOutputBytes) return;
    this.#overLimit = true;
    this.#options.onOutputLimit();
  }

  #take(message: KernelMessage): string {
    switch (message.type) {
      case "stream": {
        const stream = outputShapes.stream.safeParse(message.content).data;
        return stream === undefined ? "" : this.#folder.stream(stream.text);
      }
      case "display_data":
      case "execute_result": {
        const bundle = outputShapes.display_data.safeParse(message.content).data;
        return bundle === undefined ? "" : this.#folder.display(bundle);
      }
      case "update_display_data": {
        const bundle = outputShapes.update_display_data.safeParse(message.content).data;
        return bundle === undefined ? "" : this.#folder.updateDisplay(bundle);
      }
      case "error": {
        const error = outputShapes.error.safeParse(message.content).data;
        if (error === undefined) return "";
        this.#hasError = true;
        if (this.#isOurs(error.ename)) return "";
        return this.#folder.error(error.traceback);
      }
      case "clear_output":
        this.#folder.clear(outputShapes.clear_output.safeParse(message.content).data?.wait ?? false);
        return "";
      default:
        return "";
    }
  }

  #isOurs(errorName: string): boolean {
    return this.#interrupting && INTERRUPTS.has(errorName);
  }

  #settle(): void {
    if (this.#reply === undefined || !this.#idle || this.#ended) return;
    this.#ended = true;
    if (!this.#hasError && this.#unshownError.length > 0) this.#folder.error(this.#unshownError);
    this.#done.resolve({ ...this.#reply, output: this.output });
  }
}
