import { z } from "zod";

import type { Session } from "../../session/session.ts";
import { defineTool, type Tool } from "../define-tool.ts";
import { renderText } from "../render.ts";

export function resetTool(session: Promise<Session>): Tool {
  return defineTool({
    name: "reset",
    title: "Reset IPython kernel",
    description:
      "Take a new kernel: variables, imports and background processes are gone. Installed packages, mcptools/, registered MCP servers and " +
      "the files of the workspace stay. A running cell is interrupted.",
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({}),
    async handle(_args, { signal, progress }) {
      await (await session).reset({ signal, patient: progress.active, onStep: (step) => progress.step(step) });
      return renderText(
        "The kernel is new: variables, imports and background processes are cleared; installed packages, mcptools/, registered MCP servers and workspace files are kept.",
      );
    },
  });
}
