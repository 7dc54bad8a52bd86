import type { CallToolResult, ContentBlock } from "@modelcontextprotocol/sdk/types.js";

import { IpyboxError } from "../common/errors.ts";
import { stripControls } from "../common/logger.ts";
import { formatSeconds } from "../common/time.ts";
import type { CellResult, ToolCallRecord } from "../session/cell-result.ts";

export interface RenderOptions {
  readonly resourceLinks: boolean;
}

/** The answer of `execute_ipython_cell`. `_meta` is our word; everything in the text may be forged by the cell. */
export function renderCell(result: CellResult, options: RenderOptions): CallToolResult {
  const content: ContentBlock[] = [{ type: "text", text: cellText(result) }];
  for (const { block } of result.pictures) if (block !== undefined) content.push({ type: "image", ...block });
  const spill = result.truncation?.spill;
  if (spill !== undefined && options.resourceLinks) {
    content.push({
      type: "resource_link",
      uri: `ipybox://out/${spill.id}`,
      name: spill.path,
      description: "The cell's full output",
      mimeType: "text/plain",
      size: spill.bytes,
    });
  }
  return {
    content,
    isError: result.status !== "ok",
    _meta: {
      "ipybox/cell": {
        status: result.status,
        durationMs: Math.round(result.durationMs),
        executionCount: result.executionCount ?? null,
        truncated: result.truncation !== undefined,
        stateKept: result.stateKept,
        toolCalls: result.toolCalls.map((call) => ({ ...call, durationMs: Math.round(call.durationMs) })),
      },
    },
  };
}

/** The answer of a call that failed before or beside the cell. Bugs are not described to the model. */
export function renderError(thrown: unknown): CallToolResult {
  const error =
    thrown instanceof IpyboxError
      ? thrown
      : new IpyboxError("internal", "ipybox failed in an unexpected way", {
          hint: "See the server's log on stderr and report it.",
        });
  const hint = error.hint === undefined ? "" : `\nHint: ${error.hint}`;
  return {
    content: [{ type: "text", text: stripControls(`${error.message}${hint}`) }],
    isError: true,
    _meta: { "ipybox/error": { code: error.code } },
  };
}

export function renderText(...texts: readonly string[]): CallToolResult {
  return { content: texts.map((text) => ({ type: "text", text })) };
}

function cellText(result: CellResult): string {
  const parts = [result.text];
  if (result.truncation !== undefined) {
    const { shownChars, totalChars, spill } = result.truncation;
    const whole = spill === undefined ? "the full output could not be saved" : `full output: ${spill.path}`;
    parts.push(`[Output truncated: ${shownChars} of ${totalChars} characters shown; ${whole}]`);
  }
  const saved = result.pictures.flatMap(({ path }) => (path === undefined ? [] : [path]));
  if (saved.length > 0)
    parts.push(
      ["Generated images:", ...saved.map((path) => `- [${path.slice(path.lastIndexOf("/") + 1)}](${path})`)].join("\n"),
    );
  parts.push(...result.notices);
  if (result.toolCalls.length > 0 && ["timeout", "cancelled", "died"].includes(result.status)) {
    parts.push(`[Tool calls: ${result.toolCalls.map(describeCall).join("; ")}]`);
  }
  return parts.filter((part) => part !== "").join("\n");
}

function describeCall(call: ToolCallRecord): string {
  const name = `${call.server}.${call.tool}`;
  if (call.status === "running" || call.status === "cancelled") return `${name} in flight when stopped`;
  return `${name} ${call.status} in ${formatSeconds(call.durationMs)}`;
}
