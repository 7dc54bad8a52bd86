// Starts real MCP servers, pinned, and writes down what each answers to tools/list: node test/corpus/record.mjs [NAME...]
// Needs npx, and uv for those from PyPI. The keys are dummies: no server needs its service to list its tools.
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const npm = (spec, bin, options = {}) => ({
  origin: `npm:${spec}`,
  command: ["npx", "-y", "--package", spec, "--", bin],
  ...options,
});
const pypi = (spec, bin, { sdk = "mcp", ...options } = {}) => ({
  origin: `pypi:${spec}`,
  command: ["uv", "tool", "run", "--isolated", "--with", sdk, "--from", spec, bin],
  ...options,
});

const servers = {
  everything: npm("@modelcontextprotocol/server-everything@2026.8.31", "mcp-server-everything"),
  filesystem: npm("@modelcontextprotocol/server-filesystem@2026.8.31", "mcp-server-filesystem", { args: [tmpdir()] }),
  memory: npm("@modelcontextprotocol/server-memory@2026.8.31", "mcp-server-memory"),
  sequential_thinking: npm(
    "@modelcontextprotocol/server-sequential-thinking@2026.8.31",
    "mcp-server-sequential-thinking",
  ),
  brave_search_original: npm("@modelcontextprotocol/server-brave-search@0.6.2", "mcp-server-brave-search", {
    env: { BRAVE_API_KEY: "dummy" },
  }),
  brave_search: npm("@brave/brave-search-mcp-server@2.1.4", "brave-search-mcp-server", {
    env: { BRAVE_API_KEY: "dummy" },
  }),
  github: npm("@modelcontextprotocol/server-github@2025.4.8", "mcp-server-github"),
  slack: npm("@modelcontextprotocol/server-slack@2025.4.25", "mcp-server-slack", {
    env: { SLACK_BOT_TOKEN: "dummy", SLACK_TEAM_ID: "dummy" },
  }),
  google_maps: npm("@modelcontextprotocol/server-google-maps@0.6.2", "mcp-server-google-maps", {
    env: { GOOGLE_MAPS_API_KEY: "dummy" },
  }),
  playwright: npm("@playwright/mcp@0.0.83", "playwright-mcp"),
  chrome_devtools: npm("chrome-devtools-mcp@1.11.0", "chrome-devtools-mcp"),
  notion: npm("@notionhq/notion-mcp-server@2.5.2", "notion-mcp-server", { env: { NOTION_TOKEN: "dummy" } }),
  context7: npm("@upstash/context7-mcp@4.1.1", "context7-mcp"),
  tavily: npm("tavily-mcp@0.2.22", "tavily-mcp", { env: { TAVILY_API_KEY: "dummy" } }),
  exa: npm("exa-mcp-server@3.4.1", "exa-mcp-server", { env: { EXA_API_KEY: "dummy" } }),
  mongodb: npm("mongodb-mcp-server@3.0.4", "mongodb-mcp-server"),
  kubernetes: npm("mcp-server-kubernetes@4.1.7", "mcp-server-kubernetes"),
  time: pypi("mcp-server-time==2026.10.19", "mcp-server-time", { args: ["--local-timezone", "Etc/UTC"] }),
  git: pypi("mcp-server-git==2026.10.19", "mcp-server-git"),
  fetch: pypi("mcp-server-fetch==2026.10.24", "mcp-server-fetch"),
  sqlite: pypi("mcp-server-sqlite==2025.4.25", "mcp-server-sqlite", {
    sdk: "mcp<2",
    args: ["--db-path", join(tmpdir(), `corpus-${process.pid}.db`)],
  }),
  duckduckgo: pypi("duckduckgo-mcp-server==0.7.0", "duckduckgo-mcp-server"),
  arxiv: pypi("arxiv-mcp-server==0.8.2", "arxiv-mcp-server"),
  aws_documentation: pypi("awslabs.aws-documentation-mcp-server==1.2.3", "awslabs.aws-documentation-mcp-server"),
  atlassian: pypi("mcp-atlassian==0.23.1", "mcp-atlassian", {
    env: {
      JIRA_URL: "https://jira.invalid",
      JIRA_PERSONAL_TOKEN: "dummy",
      CONFLUENCE_URL: "https://wiki.invalid",
      CONFLUENCE_PERSONAL_TOKEN: "dummy",
    },
  }),
  excel: pypi("excel-mcp-server==2.2.2", "excel-mcp-server", { args: ["stdio"] }),
};

const wanted = process.argv.slice(2);
for (const name of wanted.length > 0 ? wanted : Object.keys(servers)) {
  try {
    await record(name, servers[name]);
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}

async function record(name, { origin, command: [program, ...options], args = [], env = {} }) {
  const client = new Client({ name: "corpus", version: "1.0.0" });
  const uv = join(import.meta.dirname, "../../images/kernel/.venv/bin");
  const transport = new StdioClientTransport({
    command: program,
    args: [...options, ...args],
    // Programs that packages want to run when they are installed have nothing to do with their tools.
    env: { ...process.env, PATH: `${process.env.PATH}${delimiter}${uv}`, npm_config_ignore_scripts: "true", ...env },
    cwd: tmpdir(),
    stderr: "ignore",
  });
  await client.connect(transport, { timeout: 300_000 });
  try {
    const tools = [];
    let cursor;
    do {
      const page = await client.listTools({ cursor });
      tools.push(...page.tools);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    const kept = tools.map((tool) => ({
      name: tool.name,
      description: tool.description,
      inputSchema: tool.inputSchema,
      outputSchema: tool.outputSchema,
    }));
    const lines = kept.map((tool) => JSON.stringify(tool)).join(",\n");
    writeFileSync(
      join(import.meta.dirname, `${name}.json`),
      `{"origin":${JSON.stringify(origin)},"tools":[\n${lines}\n]}\n`,
    );
    console.log(`${name}: ${kept.length} tools`);
  } finally {
    await client.close();
  }
}
