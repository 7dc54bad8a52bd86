import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

import { Session } from "./session.mjs";

const ROOT = join(import.meta.dirname, "..");
const BIN = join(ROOT, "dist/cli/main.js");
const PEER_PACKAGES = ["ipybox==0.9.2", "mcp<2"];

/** One side does not have the operation, or loses what is asked of it; the message says which. */
export class NotThere extends Error {}

/** This checkout. The kernel image is made when it is not there. */
export function ours() {
  run(process.execPath, [BIN, "build"]);
  return {
    name: "ipybox",
    isOurs: true,
    open: (options) =>
      Session.open({
        command: process.execPath,
        args: [BIN, "--log-level", "error"],
        environment: (directory) => ({
          XDG_STATE_HOME: join(directory, "state"),
          XDG_CONFIG_HOME: join(directory, "config"),
        }),
        ...options,
      }),
  };
}

/** The same with sandboxes of ours that are reached over the exec link. */
export function overExecLink(measurement, target) {
  return {
    ...measurement,
    name: `${measurement.name}, exec link`,
    target,
    run: (subject) => {
      if (!subject.isOurs) throw new NotThere("it has one link only");
      const args = [BIN, "--log-level", "error", "--link", "exec"];
      return measurement.run({ ...subject, open: (options) => subject.open({ ...options, args }) });
    },
  };
}

/** The original from PyPI, in a virtual environment under the user's cache directory that is made when it is not there. */
export function peer() {
  const environment = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "ipybox-bench/peer");
  const python = join(environment, "bin/python");
  const complete = join(environment, ".complete");
  if (!existsSync(complete)) {
    rmSync(environment, { recursive: true, force: true }); // one that was not finished
    mkdirSync(environment, { recursive: true });
    run("python3", ["-m", "venv", environment]);
    run(python, ["-m", "pip", "install", "--quiet", ...PEER_PACKAGES]);
    writeFileSync(complete, PEER_PACKAGES.join("\n"));
  }
  return {
    name: "the original",
    isOurs: false,
    python,
    open: (options) =>
      Session.open({
        command: join(environment, "bin/ipybox"),
        args: ["--log-level", "ERROR"],
        environment: (directory) => ({
          IPYTHONDIR: join(directory, "ipython"),
          JUPYTER_CONFIG_DIR: join(directory, "jupyter"),
        }),
        ...options,
      }),
  };
}

/** Removes the package volumes of the workspaces that are gone by now. */
export function prune() {
  run(process.execPath, [BIN, "prune"]);
}

/** A new directory for as long as `action` takes. */
export async function inDirectory(action) {
  const directory = mkdtempSync(join(tmpdir(), "ipybox-bench-"));
  try {
    return await action(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function run(program, args) {
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} failed: ${error?.message ?? stderr}`);
}
