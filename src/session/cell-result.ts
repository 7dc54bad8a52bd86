/** What a cell came to, ready to be shown. */
export interface CellResult {
  readonly status: "ok" | "error" | "timeout" | "cancelled" | "died";
  /** What the cell printed and displayed, cut to the caller's budget; no trailing white space. */
  readonly text: string;
  /** Set when `text` is not the whole output. */
  readonly truncation: Truncation | undefined;
  readonly pictures: readonly SavedPicture[];
  /** What happened beside the output (timeout, death, …), a line each, in square brackets. */
  readonly notices: readonly string[];
  readonly durationMs: number;
  readonly executionCount: number | undefined;
  /** Whether variables and imports survived. */
  readonly stateKept: boolean;
  readonly toolCalls: readonly ToolCallRecord[];
}

export interface Truncation {
  readonly shownChars: number;
  readonly totalChars: number;
  /** The whole output; absent when it could not be saved. */
  readonly spill: Spill | undefined;
}

export interface Spill {
  readonly id: string;
  /** Relative to the workspace, with forward slashes. */
  readonly path: string;
  readonly bytes: number;
}

export interface SavedPicture {
  /** Relative to the workspace, with forward slashes; absent when it could not be saved. */
  readonly path: string | undefined;
  /** What clients are shown, in Base64; absent when it is too large and can't be scaled down, or no kind that clients take. */
  readonly block: { readonly mimeType: "image/png" | "image/jpeg"; readonly data: string } | undefined;
}

export interface ToolCallRecord {
  readonly server: string;
  readonly tool: string;
  status: "running" | "done" | "failed" | "cancelled";
  durationMs: number;
}
