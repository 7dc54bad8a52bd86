import { join } from "node:path";
import process from "node:process";

/** `server_params` of the measurements' own MCP server, with so many tools beside the two that calls are measured with. */
export function upstream(tools = 0, nonce = "") {
  return { command: process.execPath, args: [join(import.meta.dirname, "upstream.mjs"), `${tools}`, nonce] };
}

/** Registers it as `bench`. */
export function registerUpstream(session, tools = 0) {
  return session.call("register_mcp_server", { server_name: "bench", server_params: upstream(tools) });
}
