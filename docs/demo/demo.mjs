// The main job, as a user's agent would do it: a real MCP client starts the built server, registers two real MCP
// servers, calls them from Python in the sandbox, and draws a plot. `make demo` sets up what this needs.
import { mkdirSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const root = join(import.meta.dirname, "../..");
const workspace = join(root, "demo-workspace");
const server = join(root, "dist/cli/main.js");
mkdirSync(workspace, { recursive: true });

const color = process.stdout.isTTY ? (code, text) => `\u001b[${code}m${text}\u001b[0m` : (_code, text) => text;
const indent = (text) => text.replace(/^/gm, "    ");

const client = new Client({ name: "ipybox-demo", version: "1.0.0" });
await step("start the server and initialize", async () => {
  await client.connect(
    new StdioClientTransport({
      command: server,
      args: ["--workspace", workspace, "--log-level", "error"],
    }),
  );
  const { name, version } = client.getServerVersion();
  return `${name} ${version}: ${(await client.listTools()).tools.map((tool) => tool.name).join(", ")}`;
});

await call("execute_ipython_cell", {
  code: "import platform, os\nf'Python {platform.python_version()} in {os.getcwd()}'",
});
await call(
  "execute_ipython_cell",
  { code: "import urllib.request\nurllib.request.urlopen('https://example.org', timeout=5)" },
  { fails: true },
);
await call("register_mcp_server", {
  server_name: "everything",
  server_params: { command: "npx", args: ["-y", "@modelcontextprotocol/server-everything@2026.8.31"] },
});
await call("register_mcp_server", {
  server_name: "filesystem",
  server_params: { command: "npx", args: ["-y", "@modelcontextprotocol/server-filesystem@2026.8.31", "${WORKSPACE}"] },
});
await call("execute_ipython_cell", {
  code: `
import asyncio
from mcptools.everything import get_structured_content as weather, get_sum

cities = ["New York", "Chicago", "Los Angeles"]
reports = await asyncio.gather(*(weather.arun(weather.Params(location=city)) for city in cities))
for city, report in zip(cities, reports):
    print(f"{city}: {report.temperature} °C, {report.conditions}, humidity {report.humidity} %")
print(get_sum.run(get_sum.Params(a=20, b=22)))`.trim(),
});
await call("execute_ipython_cell", {
  code: `
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.bar(cities, [report.temperature for report in reports], color="#3b7dd8")
axes.set_ylabel("°C")
axes.set_title("Weather, by an MCP tool called from the sandbox")
plt.show()`.trim(),
});
await call("execute_ipython_cell", {
  code: `
from pathlib import Path
from mcptools.filesystem import write_file, list_directory

text = "\\n".join(f"- {city}: {report.temperature} °C" for city, report in zip(cities, reports))
write_file.run(write_file.Params(path=str(Path.cwd() / "weather.md"), content=text))
print(Path("weather.md").read_text())
print(list_directory.run(list_directory.Params(path=str(Path.cwd()))).content)`.trim(),
});
await call("reset", {});
await call("execute_ipython_cell", { code: "'cities' in globals()" });
await step("stop the server", () => client.close());

console.log(color(1, `\nLeft in ${relative(process.cwd(), workspace) || "."}/`));
for (const directory of ["images", "mcptools/everything", "mcptools/filesystem"]) {
  const files = readdirSync(join(workspace, directory)).filter((file) => /\.(png|py)$/.test(file));
  console.log(
    `  ${directory}/: ${files.length > 4 ? `${files.slice(0, 3).join(", ")}, … (${files.length} files)` : files.join(", ")}`,
  );
}
console.log(`${color(1, "\nClaude Code:")}
  claude mcp add ipybox -- ${server} --workspace .
${color(1, "\nClaude Desktop")} (claude_desktop_config.json):
${indent(JSON.stringify({ mcpServers: { ipybox: { command: server, args: ["--workspace", workspace] } } }, null, 2))}`);

async function call(name, args, { fails = false } = {}) {
  const shown = args.code ?? JSON.stringify(args);
  console.log(`\n${color(36, `> ${name}`)}\n${color(2, indent(shown))}`);
  await step("answer", async () => {
    const onprogress = ({ message }) =>
      process.stdout.isTTY && process.stdout.write(`\r\u001b[K    ${message.split("\n").at(-1)?.slice(0, 100) ?? ""}`);
    const result = await client.callTool({ name, arguments: args }, undefined, {
      onprogress,
      timeout: 600_000,
      resetTimeoutOnProgress: true,
    });
    if (process.stdout.isTTY) process.stdout.write("\r\u001b[K");
    const text = result.content
      .map((block) => (block.type === "text" ? block.text : `[${block.type} ${block.mimeType}]`))
      .join("\n");
    if ((result.isError ?? false) !== fails) throw new Error(text);
    return fails ? `(as it should be: no network) ${text.split("\n").at(-1)}` : text;
  });
}

async function step(what, action) {
  const startedAt = performance.now();
  const text = await action();
  const took = `${Math.round(performance.now() - startedAt)} ms`;
  console.log(`${text ? `${indent(text)}\n` : ""}${color(2, `    ${what}: ${took}`)}`);
}
