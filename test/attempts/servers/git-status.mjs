// An MCP server that runs `git status` where it is told, as those for coding do.
import { execFileSync } from "node:child_process";
import process from "node:process";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "git-status", version: "1.0.0" });
server.registerTool("status", { inputSchema: { path: z.string() } }, ({ path }) => ({
  content: [
    {
      type: "text",
      text: execFileSync("git", ["-c", "safe.directory=*", "-C", path, "status", "--short"], {
        env: process.env,
        encoding: "utf8",
      }),
    },
  ],
}));
await server.connect(new StdioServerTransport());
