// An MCP server that says its key wherever a server can say something.
import { Buffer } from "node:buffer";
import process from "node:process";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const key = process.env.KEY ?? "";
const text = (value) => ({ content: [{ type: "text", text: value }] });
const inputSchema = {
  type: "object",
  description: key,
  properties: { text: { type: "string", description: key, default: key } },
};
const answers = {
  result: () => text(`the key is ${key}, ${encodeURIComponent(key)}, ${JSON.stringify(key)}`),
  encoded: () => text([key, `user:${key}`].map((value) => Buffer.from(value).toString("base64")).join(" ")),
  structured: () => ({ ...text(key), structuredContent: { [key]: [key] } }),
  failure: () => ({ ...text(`no luck with ${key}`), isError: true }),
  echo: (given) => text(given.text ?? ""),
  crash: () => {
    process.stderr.write(`${key}\n`);
    process.exit(1);
  },
};

process.stderr.write(`started with ${key}\n`);
const server = new Server(
  { name: `chatty ${key}`, version: "1.0.0" },
  { capabilities: { tools: {} }, instructions: key },
);
server.setRequestHandler(ListToolsRequestSchema, () => ({
  tools: Object.keys(answers).map((name) => ({ name, description: `Says ${key}`, inputSchema })),
}));
server.setRequestHandler(CallToolRequestSchema, ({ params }) => answers[params.name](params.arguments ?? {}));
await server.connect(new StdioServerTransport());
