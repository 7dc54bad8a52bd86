import type { ResourceTemplate, TextResourceContents } from "@modelcontextprotocol/sdk/types.js";

import type { Session } from "../session/session.ts";

export const RESOURCE_TEMPLATES: ResourceTemplate[] = [
  {
    name: "Cell output",
    uriTemplate: "ipybox://out/{id}",
    description: "The full output of a cell whose answer was truncated",
    mimeType: "text/plain",
  },
  {
    name: "Generated module",
    uriTemplate: "ipybox://mcptools/{server}/{tool}",
    description: "The generated Python module of a registered MCP server's tool",
    mimeType: "text/x-python",
  },
];

/** Undefined when no resource has that URI. */
export async function readResource(uri: string, session: Session): Promise<TextResourceContents | undefined> {
  const [, id] = /^ipybox:\/\/out\/([A-Za-z0-9-]{1,64})$/.exec(uri) ?? [];
  if (id !== undefined) return toContents(uri, "text/plain", await session.readOutput(id));
  const [, server, tool] = /^ipybox:\/\/mcptools\/([A-Za-z0-9_]{1,64})\/([A-Za-z0-9_]{1,255})$/.exec(uri) ?? [];
  if (server !== undefined && tool !== undefined)
    return toContents(uri, "text/x-python", await session.readModule(server, tool));
  return undefined;
}

function toContents(uri: string, mimeType: string, text: string | undefined): TextResourceContents | undefined {
  return text === undefined ? undefined : { uri, mimeType, text };
}
