import { z } from "zod";

import { IpyboxError } from "../../common/errors.ts";
import type { Session } from "../../session/session.ts";
import { defineTool, type Tool } from "../define-tool.ts";
import { renderText } from "../render.ts";

const input = z.strictObject({
  server_name: z.string().describe("A Python identifier: the package of the generated API is mcptools.<server_name>"),
  server_params: z
    .record(z.string(), z.unknown())
    .meta({ additionalProperties: true }) // zod says `{}`, which checkers of schemas take for forgotten
    .describe(
      "How the MCP server is reached. stdio: {command, args?, env?, cwd?}; HTTP: {url, headers?, type?: http|streamable_http|sse}. " +
        "Optional timeout in seconds to connect. ${NAME} in string values stands for a variable of the host, e.g. an API key: " +
        "write the placeholder, never the secret.",
    ),
});

/** `config-only`: the model is told that registration is not its business. */
export function registerServerTool(session: Promise<Session>, registration: "allow" | "config-only"): Tool {
  return defineTool({
    name: "register_mcp_server",
    title: "Register MCP server",
    description:
      "Connect an MCP server, which runs outside the sandbox, and generate a typed Python API for its tools in mcptools/<server_name>/ of " +
      "the workspace. Returns the module names. Read a module to see its Params and Result, then in a cell: " +
      "`from mcptools.<server_name>.<tool> import Params, run` and `run(Params(...))`. Stays registered for this workspace.",
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: true },
    input,
    async handle({ server_name, server_params }, { signal, progress }) {
      if (registration === "config-only") {
        throw new IpyboxError(
          "registration-disabled",
          "registering MCP servers is switched off (--registration config-only)",
          {
            hint: "Use the servers that are registered already; the user can add others to the file of --mcp-config.",
          },
        );
      }
      const registered = await (
        await session
      ).registerServer(server_name, server_params, {
        signal,
        patient: progress.active,
        onStep: (step) => progress.step(step),
      });
      if (registered.modules.length === 0)
        return renderText(`${server_name} is registered, but it lists no tools.`, ...registered.warnings);
      return renderText(...registered.modules, ...registered.warnings);
    },
  });
}
