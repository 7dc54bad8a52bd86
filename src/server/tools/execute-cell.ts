import { z } from "zod";

import type { Session } from "../../session/session.ts";
import { defineTool, type Tool } from "../define-tool.ts";
import { renderCell } from "../render.ts";

const input = z.strictObject({
  code: z.string().describe("Python or IPython code: top-level await, !shell commands, %magics and %%cell magics work"),
  timeout: z
    .number()
    .positive()
    .max(86_400)
    .default(120)
    .describe("Seconds until the cell is interrupted; partial output is kept, and variables where possible"),
  max_output_chars: z
    .number()
    .int()
    .nonnegative()
    .default(5000)
    .describe("How much output is shown; the whole of it is kept in a file that the answer names"),
});

export function executeCellTool(session: Promise<Session>): Tool {
  return defineTool({
    name: "execute_ipython_cell",
    title: "Execute IPython cell",
    description:
      "Run code in a stateful IPython kernel inside a sandbox without network. Variables, imports and files in the workspace persist " +
      "between calls. Returns what the cell printed and displayed, plots as images, and the traceback of an exception. " +
      "MCP tools that were registered are called with `from mcptools.<server>.<tool> import Params, run`.",
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },
    input,
    async handle({ code, timeout, max_output_chars }, { signal, progress, resourceLinks }) {
      const result = await (
        await session
      ).executeCell(code, {
        timeoutMs: timeout * 1000,
        maxOutputChars: max_output_chars,
        signal,
        patient: progress.active,
        onStep: (step) => progress.step(step),
        onText: (text) => progress.text(text),
        onToolProgress: (message) => progress.status(message),
      });
      return renderCell(result, { resourceLinks });
    },
  });
}
