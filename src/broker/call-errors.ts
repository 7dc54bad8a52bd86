import { IpyboxError } from "../common/errors.ts";

/** The server had ended before it could hear of the call, which may therefore be made again. */
export class UnsentCallError extends IpyboxError {}

/** No tool of that name is listed by a registered server. `known`: those that are. */
export function unknownTool(server: string, tool: string, known: Iterable<string>): IpyboxError {
  return new IpyboxError("unknown-tool", `The MCP server ${server} lists no tool called ${JSON.stringify(tool)}`, {
    hint: `Its tools are ${[...known].slice(0, 50).join(", ") || "none"}.`,
  });
}
