import type { ToolCallRecord } from "./cell-result.ts";

/** The tool calls of one running cell: who was called, how it ended, and the means to end them all. */
export class CellCalls {
  readonly #records: ToolCallRecord[] = [];
  readonly #underWay = new Set<AbortController>();
  #stopped = false;

  get records(): readonly ToolCallRecord[] {
    return this.#records.map((record) => ({ ...record }));
  }

  /** Runs `call` with a signal of its own, which aborts when `signal` does, or when the cell is stopped. */
  async record<T>(
    { server, tool }: { readonly server: string; readonly tool: string },
    signal: AbortSignal,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const startedAt = performance.now();
    const record: ToolCallRecord = { server, tool, status: "running", durationMs: 0 };
    this.#records.push(record);
    const cancellation = new AbortController();
    const cancel = () => cancellation.abort();
    if (this.#stopped || signal.aborted) cancel();
    signal.addEventListener("abort", cancel);
    this.#underWay.add(cancellation);
    try {
      const result = await call(cancellation.signal);
      record.status = "done";
      return result;
    } catch (error) {
      record.status = this.#stopped ? "cancelled" : "failed";
      throw error;
    } finally {
      signal.removeEventListener("abort", cancel);
      this.#underWay.delete(cancellation);
      record.durationMs = performance.now() - startedAt;
    }
  }

  /** The cell is stopped: its calls are cancelled upstream, later ones too. */
  cancelAll(): void {
    this.#stopped = true;
    for (const cancellation of this.#underWay) cancellation.abort();
  }
}
