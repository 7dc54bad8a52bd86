import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

import type { TestProject } from "vitest/node";

import { ENGINE_OF_RUN } from "./engine-of-run.ts";
import { shareEnvironments } from "./environments.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The bin of the package as a user installs it: packed, then installed into an empty directory. */
    ipyboxBin: string;
  }
}

const ROOT = resolve(import.meta.dirname, "../..");

/** Global set-up of the end-to-end tests: packs and installs the package once, and makes sure that its image exists. */
export default function setup(project: TestProject): () => Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "test-ipybox-package-"));
  const npm = (...args: string[]) =>
    execFileSync("npm", [...args, "--loglevel=error", "--ignore-scripts"], {
      cwd: directory,
      stdio: ["ignore", "ignore", "inherit"],
    });
  npm("pack", ROOT, "--pack-destination", directory);
  const tarball = readdirSync(directory).find((name) => name.endsWith(".tgz")) ?? "";
  npm(
    "install",
    "--prefix",
    directory,
    join(directory, tarball),
    "--omit=dev",
    "--prefer-offline",
    "--no-audit",
    "--no-fund",
  );
  const bin = join(directory, "node_modules/.bin/ipybox");
  const stateHome = mkdtempSync(join(tmpdir(), "test-ipybox-state-"));
  shareEnvironments(join(stateHome, "ipybox"));
  // Images are everybody's, and so are the locks of those who build them.
  const env = ENGINE_OF_RUN === "docker" ? process.env : { ...process.env, XDG_STATE_HOME: stateHome };
  execFileSync(bin, ["build"], { cwd: directory, env, stdio: ["ignore", "ignore", "inherit"] });
  project.provide("ipyboxBin", bin);
  return async () => {
    // The volumes of the tests' workspaces, which are gone by now. While it runs, vitest hears of the ends of its workers.
    await promisify(execFile)(bin, ["prune"], { cwd: ROOT, env });
    for (const made of [directory, stateHome]) rmSync(made, { recursive: true });
  };
}
