import type { ToolCallRecord } from "./cell-result.ts";

/** The tool calls of one running cell: who was called, how it ended, and the means to end them all. */
export class CellCalls {
  readonly #records: ToolCallRecord[] = [];
  readonly #stop = new AbortController();

  /** Aborts when the cell is stopped: its calls are cancelled upstream. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  get records(): readonly ToolCallRecord[] {
    return this.#records.map((record) => ({ ...record }));
  }

  async record<T>(server: string, tool: string, call: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    const record: ToolCallRecord = { server, tool, status: "running", durationMs: 0 };
    this.#records.push(record);
    try {
      const result = await call();
      record.status = "done";
      return result;
    } catch (error) {
      record.status = this.#stop.signal.aborted ? "cancelled" : "failed";
      throw error;
    } finally {
      record.durationMs = performance.now() - startedAt;
    }
  }

  cancelAll(): void {
    this.#stop.abort();
  }
}
