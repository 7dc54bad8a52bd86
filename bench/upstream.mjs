// An MCP server on stdio for the measurements: `node bench/upstream.mjs COUNT NONCE` has the tools that calls are measured
// with and COUNT more, whose schemas, like those of real servers, differ from each other; NONCE keeps caches out of it.
import process from "node:process";

import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const [count = "0", nonce = ""] = process.argv.slice(2);

const echo = {
  name: "echo",
  description: "Returns the text",
  inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
};
const large = {
  name: "large",
  description: "Returns a text of so many bytes",
  inputSchema: { type: "object", properties: { bytes: { type: "integer" } }, required: ["bytes"] },
};
const more = Array.from({ length: Number(count) }, (_, index) => ({
  name: `search-${index}`,
  description: `Search of kind ${index} (${nonce})`,
  inputSchema: {
    type: "object",
    properties: {
      query: { type: "string", description: `What to look for, ${index}` },
      count: { type: "integer", minimum: 1, maximum: 100, default: 10, description: "Results per page" },
      freshness: { type: "string", enum: ["day", "week", "month", "any"], default: "any" },
      domains: { type: "array", items: { type: "string" }, description: `Only these, ${nonce}` },
      location: {
        type: "object",
        properties: { latitude: { type: "number" }, longitude: { type: "number" }, radius: { type: "number" } },
        required: ["latitude", "longitude"],
      },
    },
    required: ["query"],
  },
}));

const server = new Server({ name: "bench-upstream", version: "1.0.0" }, { capabilities: { tools: {} } });
server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [echo, large, ...more] }));
server.setRequestHandler(CallToolRequestSchema, ({ params }) => ({
  content: [
    { type: "text", text: params.name === "large" ? "x".repeat(params.arguments.bytes) : params.arguments.text },
  ],
}));
await server.connect(new StdioServerTransport());
