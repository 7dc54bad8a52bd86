import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const DIRECTORY = resolve(import.meta.dirname, "../clients");

/** MCP clients as their makers publish them. */
export interface ClientPrograms {
  readonly claude: string;
  readonly inspector: string;
}

/**
 * The locked clients, installed at the first use and whenever the lock has changed. They are large, so they are no
 * dependencies of the project.
 */
export function installClientPrograms(): ClientPrograms {
  const marker = join(DIRECTORY, "node_modules/made-from");
  const digest = createHash("sha256")
    .update(readFileSync(join(DIRECTORY, "package-lock.json")))
    .digest("hex");
  if (!existsSync(marker) || readFileSync(marker, "utf8") !== digest) {
    execFileSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: DIRECTORY,
      stdio: ["ignore", "ignore", "inherit"],
    });
    writeFileSync(marker, digest);
  }
  const program = (name: string) => join(DIRECTORY, "node_modules/.bin", name);
  return { claude: program("claude"), inspector: program("mcp-inspector") };
}
