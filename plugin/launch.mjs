// Starts ipybox in this process: the one that this plugin was checked out with, where that is built, else the npm package of
// the version below, which is installed at the first start into the plugin's own data directory.
//
// Not `npx`: Claude Code starts this in the project, where cells write, and npx runs what it finds in ./node_modules/.bin.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const VERSION = "1.0.0";
const MAIN = "dist/cli/main.js";

const checkout = join(import.meta.dirname, "..", MAIN);
const program = existsSync(checkout) ? checkout : installed();
await import(pathToFileURL(program).href);

function installed() {
  const data = process.env.CLAUDE_PLUGIN_DATA;
  if (!data) fail("CLAUDE_PLUGIN_DATA is not set: this is started by Claude Code");
  const place = join(data, VERSION);
  if (!existsSync(place)) install(data, place);
  return join(place, "node_modules/ipybox", MAIN);
}

/** `place` appears at once and complete, or not at all; another session may be at it too. */
function install(data, place) {
  mkdirSync(data, { recursive: true });
  const making = mkdtempSync(join(data, "installing-"));
  try {
    writeFileSync(join(making, "package.json"), "{}"); // what npm takes for the project, so that it looks no further up
    const { status, error } = spawnSync(
      "npm",
      ["install", `ipybox@${VERSION}`, "--ignore-scripts", "--no-audit", "--no-fund"],
      {
        cwd: making,
        env: { ...process.env, PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) },
        stdio: ["ignore", 2, 2], // stdout is the protocol's
        shell: process.platform === "win32", // npm is npm.cmd there
      },
    );
    if (status !== 0) fail(`ipybox ${VERSION} could not be installed from npm${error ? `: ${error.message}` : ""}`);
    rename(making, place);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
}

function rename(making, place) {
  try {
    renameSync(making, place);
  } catch (error) {
    if (!existsSync(place)) throw error; // else another session was faster
  }
}

function fail(message) {
  throw new Error(message);
}
