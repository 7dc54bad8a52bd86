// An MCP server with a tool per thing that the broker has to cope with. Its list of tools comes in two pages.
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import process from "node:process";
import { setInterval } from "node:timers";
import { setTimeout } from "node:timers/promises";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const secret = process.env.SECRET ?? "";
const noArguments = { type: "object" };
const tools = [
  { name: "echo", inputSchema: noArguments },
  { name: "secrets", description: `Knows ${secret}`, inputSchema: { ...noArguments, title: secret } },
  { name: "fail", inputSchema: noArguments },
  { name: "protocol-error", inputSchema: noArguments },
  { name: "environment", inputSchema: noArguments },
  { name: "pids", inputSchema: noArguments },
  { name: "die", inputSchema: noArguments },
  { name: "wait", inputSchema: noArguments },
  { name: "progress", inputSchema: noArguments },
  { name: "big", inputSchema: noArguments },
  { name: "grow", inputSchema: noArguments },
  {
    name: "odd-schemas",
    inputSchema: { type: "object", properties: { a: true } },
    outputSchema: { $ref: "http://x/y" },
  },
];

const text = (value) => ({ content: [{ type: "text", text: value }] });
const child = process.env.WITH_CHILD ? spawn("sleep", ["1000"], { stdio: "ignore" }) : undefined;
if (process.env.STUBBORN) {
  process.on("SIGTERM", () => undefined);
  setInterval(() => undefined, 1000);
}

const server = new Server(
  { name: "many-talents", version: "1.0.0" },
  { capabilities: { tools: { listChanged: true } }, instructions: `Be careful with ${secret}` },
);

server.setRequestHandler(ListToolsRequestSchema, ({ params }) =>
  params?.cursor === undefined ? { tools: tools.slice(0, 3), nextCursor: "more" } : { tools: tools.slice(3) },
);

const answers = {
  echo: ({ params }) => ({ ...text(JSON.stringify(params.arguments)), structuredContent: params.arguments }),
  secrets: () => ({
    content: [
      { type: "text", text: `${secret} ${encodeURIComponent(secret)} ${JSON.stringify(secret)}` },
      { type: "text", text: Buffer.from(`user:${secret}`).toString("base64") },
      { type: "resource", resource: { uri: `memo://x/${encodeURIComponent(secret)}`, text: secret } },
    ],
    structuredContent: { deep: [{ [secret]: secret }] },
  }),
  fail: () => ({ ...text(`no luck with ${secret}`), isError: true }),
  "protocol-error": () => {
    throw new Error(`thrown with ${secret}`);
  },
  environment: () => ({ ...text(""), structuredContent: { env: process.env, cwd: process.cwd() } }),
  pids: () => {
    const pids = { pid: process.pid, child: child?.pid ?? null };
    return { ...text(JSON.stringify(pids)), structuredContent: pids };
  },
  die: () => {
    process.stderr.write(`\u001b[31mlast words about ${secret}\u001b[0m\n`, () => process.exit(3));
    return new Promise(() => undefined);
  },
  wait: async ({ params }, { signal, sendNotification }) => {
    const { progressToken } = params._meta;
    await sendNotification({ method: "notifications/progress", params: { progressToken, progress: 0 } });
    return new Promise((resolve) => {
      signal.addEventListener("abort", () => {
        appendFileSync(process.env.CANCELLED_FILE, "cancelled");
        resolve(text(""));
      });
    });
  },
  progress: async ({ params }, { sendNotification }) => {
    for (let progress = 1; progress <= 8; progress += 1) {
      await setTimeout(100);
      const { progressToken } = params._meta;
      const message = `step ${progress} of ${secret}`;
      await sendNotification({
        method: "notifications/progress",
        params: { progressToken, progress, total: 8, message },
      });
    }
    return text("done");
  },
  big: ({ params }) => text("x".repeat(params.arguments.bytes)),
  grow: async () => {
    tools.push({ name: `grown-${tools.length}`, inputSchema: noArguments });
    await server.sendToolListChanged();
    return text("");
  },
};

server.setRequestHandler(CallToolRequestSchema, (request, extra) => answers[request.params.name](request, extra));
await server.connect(new StdioServerTransport());
