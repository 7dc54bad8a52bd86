import { oneLine } from "../common/one-line.ts";
import type { DeathCause } from "../kernel/execution.ts";
import type { PullReport } from "../workspace/copy/incoming-entries.ts";
import type { ShieldBreach } from "../workspace/shield-watcher.ts";
import type { SavedPicture } from "./cell-result.ts";

/** Says that a cell ran in another sandbox or kernel than the one before. */
export function noticeOfLoss(what: string, breach: ShieldBreach | undefined): string {
  const lost = "variables and imports are lost";
  if (breach === undefined) return `[${what} before this cell; it ran in a new one; ${lost}]`;
  return `[${breach.path} ${breach.what}: the sandbox was stopped at once, and this cell ran in a new one; ${lost}]`;
}

/** Says that a mask fell, and the running cell with it. */
export function noticeOfBreach({ path, what }: ShieldBreach): string {
  return `[${path} ${what} while this cell ran: the sandbox was stopped at once and is replaced; variables and imports are lost]`;
}

export interface Death {
  /** Whether another kernel took its place. */
  readonly replaced: boolean;
  /** Undefined where there is no limit of a sandbox's own. */
  readonly memoryLimitBytes: number | undefined;
}

/** Says that the kernel died in a cell, why if that is known, and what the next one runs in. */
export function noticeOfDeath(cause: DeathCause, { replaced, memoryLimitBytes }: Death): string {
  const next = replaced ? "a new kernel is running" : "a new sandbox is made for the next cell";
  return `[The kernel died${describeCause(cause, memoryLimitBytes)}; ${next}; variables and imports are lost]`;
}

/** Says which pictures of a cell are not all where they should be: in the answer and in the workspace. */
export function noticesOfPictures(saved: readonly SavedPicture[], leftOut: number): string[] {
  const lines: string[] = [];
  const unshown = saved.flatMap(({ path, block }) => (block === undefined && path !== undefined ? [path] : []));
  const large = unshown.filter((path) => !path.endsWith(".svg"));
  if (large.length > 0) lines.push(`[Too large to be shown here, and not scaled down: ${list(large)}]`);
  const unsaved = saved.filter(({ path }) => path === undefined).length;
  if (unsaved > 0) lines.push(`[${unsaved} of ${saved.length} pictures could not be saved under images/]`);
  if (leftOut > 0) lines.push(`[${saved.length} pictures are kept of a cell: ${leftOut} more were left out]`);
  return lines;
}

/** Names what tools of the host act on and a cell could write. `paths` are fit for a line of text. */
export function noticesOfChanges(paths: readonly string[]): string[] {
  if (paths.length === 0) return [];
  const more = paths.length > MAX_NAMED ? ` and ${paths.length - MAX_NAMED} more` : "";
  const named = paths.slice(0, MAX_NAMED).join(", ");
  return [`[Changed during this cell: ${named}${more}. Programs on the host may act on it]`];
}

/** What a cell's answer says of changes that did not simply reach the host, a line for each kind. */
export function noticesOfPull({ conflicts, left, complete }: PullReport): string[] {
  const lines = conflicts.slice(0, MAX_NAMED).map(({ path, beside }) => {
    const theirs = beside === undefined ? "the cell removed its own" : `the cell's is ${oneLine(beside)}`;
    return `[Changed on the host and in the cell: ${oneLine(path)}. The host's was kept; ${theirs}]`;
  });
  if (conflicts.length > MAX_NAMED) lines.push(`[${conflicts.length - MAX_NAMED} more changed on both sides]`);
  for (const [why, text] of Object.entries(REASONS)) {
    const paths = left.filter((each) => each.why === why).map(({ path }) => path);
    if (paths.length > 0) lines.push(`[Not copied to the host (${text}): ${list(paths)}]`);
  }
  if (!complete)
    lines.push(
      "[The workspace has too many files, or paths too deep or too long: not every change of this cell was copied to the host]",
    );
  return lines;
}

function describeCause(cause: DeathCause, memoryLimitBytes: number | undefined): string {
  switch (cause.type) {
    case "out-of-memory":
      return ` (out of memory${memoryLimitBytes === undefined ? "" : `, limit ${formatMemory(memoryLimitBytes)}`})`;
    case "output-limit":
      return " (killed: it sent more than 256 MB at once)";
    case "exit":
      return ` (exit code ${cause.code})`;
    case "signal":
      return ` (${cause.signal})`;
    case "sandbox-end":
      return " (its sandbox ended)";
    case "unknown":
      return "";
  }
}

/** Memory in powers of two, as limits of memory are given. */
function formatMemory(bytes: number): string {
  const unit = bytes >= 2 ** 30 ? { name: "GiB", size: 2 ** 30 } : { name: "MiB", size: 2 ** 20 };
  return `${Number((bytes / unit.size).toFixed(1))} ${unit.name}`;
}

function list(paths: readonly string[]): string {
  const more = paths.length > MAX_NAMED ? ` and ${paths.length - MAX_NAMED} more` : "";
  return `${paths
    .slice(0, MAX_NAMED)
    .map((path) => oneLine(path))
    .join(", ")}${more}`;
}

const REASONS: Readonly<Record<PullReport["left"][number]["why"], string>> = {
  shielded: "masked or protected",
  name: "a name that the host does not take",
  outward: "a link that leads out of the workspace",
  special: "neither file, directory nor link",
  unreadable: "not readable",
  "too-large": "more than 1 GiB",
  later: "too much at once, or too little space",
  "in-the-way": "something else has its place",
};
const MAX_NAMED = 20;
