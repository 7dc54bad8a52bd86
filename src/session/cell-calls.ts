import type { CallToolResultLike, ToolCall } from "../bridge/bridge-server.ts";
import type { ToolBroker } from "../broker/tool-broker.ts";
import type { ToolProgress } from "../broker/upstream.ts";
import type { ToolCallRecord } from "./cell-result.ts";

export interface CellCallsOptions {
  readonly broker: ToolBroker;
  /** The cell's: a call may be silent for as long. */
  readonly timeoutMs: number;
  /** What MCP servers say about calls that are under way. */
  readonly onProgress: (message: string) => void;
}

const MAX_PROGRESS_CHARS = 500;

/** The tool calls of one running cell: who was called, how it ended, and the means to end them all. */
export class CellCalls {
  readonly #options: CellCallsOptions;
  readonly #records: ToolCallRecord[] = [];
  readonly #underWay = new Set<AbortController>();
  #stopped = false;

  constructor(options: CellCallsOptions) {
    this.#options = options;
  }

  get records(): readonly ToolCallRecord[] {
    return this.#records.map((record) => ({ ...record }));
  }

  /** Calls a tool; the call is cancelled when `signal` aborts, or when the cell is stopped. */
  async call(call: ToolCall, signal: AbortSignal): Promise<CallToolResultLike> {
    const startedAt = performance.now();
    const record: ToolCallRecord = { server: call.server, tool: call.tool, status: "running", durationMs: 0 };
    this.#records.push(record);
    const cancellation = new AbortController();
    const cancel = () => cancellation.abort();
    if (this.#stopped || signal.aborted) cancel();
    signal.addEventListener("abort", cancel);
    this.#underWay.add(cancellation);
    try {
      const result = await this.#options.broker.call(call, {
        signal: cancellation.signal,
        timeoutMs: this.#options.timeoutMs,
        onProgress: (progress) => this.#options.onProgress(describeProgress(call, progress)),
      });
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

/** As in `github.search: 3/10 reading page 3`. */
function describeProgress({ server, tool }: ToolCall, { progress, total, message }: ToolProgress): string {
  const share = total === undefined ? String(progress) : `${progress}/${total}`;
  return `${server}.${tool}: ${share}${message === undefined ? "" : ` ${message.slice(0, MAX_PROGRESS_CHARS)}`}`;
}
