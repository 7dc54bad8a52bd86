import { formatSeconds } from "../common/time.ts";
import type { CellResult } from "./cell-result.ts";

/** Why a cell is stopped before its end. */
export type StopReason =
  | { readonly type: "timeout"; readonly afterMs: number }
  | { readonly type: "disk-full"; readonly floorBytes: number }
  | { readonly type: "cancelled" | "reset" | "output-limit" };

/** What it came to: how far the ladder was climbed, and what that cost. */
const RUNGS = {
  "not-run": "the cell was not run",
  interrupted: "the cell was interrupted; variables are kept",
  killed: "the kernel was killed; variables are lost",
  replaced: "the sandbox was replaced; variables are lost",
} as const;

/** What a signal was aborted with; anything but a {@link StopReason} is a cancellation by the client. */
export function reasonOf({ reason }: AbortSignal): StopReason {
  return isStopReason(reason) ? reason : { type: "cancelled" };
}

export function statusOf(reason: StopReason): CellResult["status"] {
  switch (reason.type) {
    case "timeout":
      return "timeout";
    case "cancelled":
    case "reset":
      return "cancelled";
    case "output-limit":
    case "disk-full":
      return "error";
  }
}

export function noticeOfStop(reason: StopReason, rung: keyof typeof RUNGS): string {
  switch (reason.type) {
    case "timeout":
      return `[Timed out after ${formatSeconds(reason.afterMs)}: ${RUNGS[rung]}]`;
    case "cancelled":
      return `[Cancelled: ${RUNGS[rung]}]`;
    case "reset":
      return `[Stopped by reset: ${rung === "interrupted" ? "the cell was interrupted" : RUNGS[rung]}]`;
    case "disk-full":
      return `[Less than ${Number((reason.floorBytes / 1e9).toFixed(1))} GB of disk space is free: ${RUNGS[rung]}]`;
    case "output-limit":
      return `[Output limit of 256 MB exceeded: ${rung === "interrupted" ? "the cell was interrupted" : RUNGS[rung]}]`;
  }
}

function isStopReason(reason: unknown): reason is StopReason {
  return (
    typeof reason === "object" &&
    reason !== null &&
    "type" in reason &&
    ["cancelled", "reset"].includes(String(reason.type))
  );
}
