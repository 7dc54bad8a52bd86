import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmodSync, cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";

import { afterAll, beforeAll, expect, test } from "vitest";

import { type ClaudeCode, claudeCode } from "../helpers/claude-code.ts";
import { TestDirectory } from "../helpers/client.ts";

/** The plugin as Claude Code's users get it: a marketplace with nothing built beside it, and the package from a registry. */
const ROOT = resolve(import.meta.dirname, "../..");
const directory = new TestDirectory();
const project = directory.make("project");
const marketplace = directory.make("marketplace");
let registry: Server;
let claude: ClaudeCode;

beforeAll(async () => {
  for (const part of [".claude-plugin", "plugin"])
    cpSync(join(ROOT, part), join(marketplace, part), { recursive: true });
  registry = await serveRegistry();
  const { port } = registry.address() as AddressInfo; // of a TCP server that listens
  claude = claudeCode(directory, {
    project,
    env: { npm_config_registry: `http://127.0.0.1:${port}/`, npm_config_cache: npm("config", "get", "cache").trim() },
  });
});
afterAll(() => {
  registry.close();
  registry.closeAllConnections();
  directory[Symbol.dispose]();
});

test("Claude Code finds nothing wrong with the marketplace and its plugins", async () => {
  expect(await claude("plugin", "validate", "--strict", marketplace)).toContain("Validation passed");
});

test("the plugin is installed, and its first start installs the program and finds it healthy", async () => {
  plantPrograms();
  await claude("plugin", "marketplace", "add", marketplace);
  await claude("plugin", "install", "ipybox@ipybox");
  expect(await claude("mcp", "list")).toMatch(/^plugin:ipybox:ipybox: .*✔ Connected$/m);
  expect(await claude("plugin", "details", "ipybox")).toMatch(/Skills \(1\)\s+using-ipybox/);
  expect(readdirSync(directory.make("home/.claude/plugins/data/ipybox-ipybox"))).toEqual([packageFile().version]);
});

test("the variants bring the same skill and another sandbox", async () => {
  await claude("plugin", "install", "ipybox-srt@ipybox");
  await claude("plugin", "install", "ipybox-all-in-one@ipybox");
  const servers = await claude("mcp", "list");
  expect(servers).toMatch(/^plugin:ipybox-srt:ipybox: node .* --sandbox srt .*✔ Connected$/m);
  expect(servers).toContain(`plugin:ipybox-all-in-one:ipybox: docker run -i --rm -v ${project}:/app/workspace ipybox`);
  expect(await claude("plugin", "details", "ipybox-srt")).toMatch(/Skills \(1\)\s+using-ipybox/);
});

test("nothing that lies in the project was run, as `npx` would have", () => {
  expect(existsSync(join(project, "planted-ran"))).toBe(false);
  // Without the wall: the same program by its name.
  execFileSync("npx", ["ipybox"], { cwd: project, stdio: "ignore" });
  expect(existsSync(join(project, "planted-ran"))).toBe(true);
});

/** What a cell could leave behind for the next session. */
function plantPrograms(): void {
  const bin = directory.make("project/node_modules/.bin");
  for (const name of ["ipybox", "npm", "npx", "sh"]) {
    writeFileSync(join(bin, name), `#!/bin/sh\n: >${join(project, "planted-ran")}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  writeFileSync(join(project, ".npmrc"), "registry=http://127.0.0.1:1/\n");
}

/** npm's registry with this checkout published in it; everything else is found where it always is. */
async function serveRegistry(): Promise<Server> {
  const elsewhere = npm("config", "get", "registry").trim();
  const { version } = packageFile();
  const tarball = readFileSync(join(directory.path, pack()));
  const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
  const server = createServer(({ url = "/", headers }, response) => {
    if (url === "/ipybox.tgz") response.end(tarball);
    else if (url === "/ipybox") {
      const dist = { tarball: `http://${headers.host ?? ""}/ipybox.tgz`, integrity };
      const versions = { [version]: { ...packageFile(), dist } };
      response.end(JSON.stringify({ name: "ipybox", "dist-tags": { latest: version }, versions }));
    } else response.writeHead(302, { location: new URL(`.${url}`, elsewhere).href }).end();
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return server;
}

function pack(): string {
  const output = npm("pack", ROOT, "--pack-destination", directory.path, "--ignore-scripts", "--loglevel=error");
  return output.trim();
}

function npm(...args: string[]): string {
  return execFileSync("npm", args, { cwd: directory.path, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}

function packageFile(): { readonly version: string } {
  return JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string }; // our own
}
