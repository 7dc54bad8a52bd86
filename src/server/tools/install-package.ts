import { z } from "zod";

import type { Session } from "../../session/session.ts";
import { defineTool, type Tool } from "../define-tool.ts";
import { renderText } from "../render.ts";

const input = z.strictObject({
  package_name: z
    .string()
    .describe(
      'One requirement: "numpy>=2", "requests[socks]", "git+https://host/repo", or the path of a wheel, sdist or directory in the workspace',
    ),
});

export function installPackageTool(session: Promise<Session>): Tool {
  return defineTool({
    name: "install_package",
    title: "Install Python package",
    description:
      "Install a Python package for this workspace. The kernel sees it at once, without a restart, and so do later sessions. " +
      "The kernel itself stays offline: the installation runs in a container of its own.",
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: true },
    input,
    async handle({ package_name }, { signal, progress }) {
      const output = await (
        await session
      ).installPackage(package_name, {
        signal,
        patient: progress.active,
        onStep: (step) => progress.step(step),
        onText: (text) => progress.text(text),
      });
      return renderText(output);
    },
  });
}
