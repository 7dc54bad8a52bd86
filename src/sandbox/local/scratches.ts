import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { currentProcess, formatIdentity, livenessOf, parseIdentity } from "../../common/process-identity.ts";
import type { Scratch } from "../engine.ts";
import { makeOwned, type SandboxUser } from "./places.ts";

/** Beside what a task writes, where no sandbox does: the process that made it. */
const OWNER_FILE = "owner";

/** A directory of the user's, on the disk of the packages, for what a task builds. */
export async function makeScratch(dataDir: string, user: SandboxUser): Promise<Scratch> {
  const place = join(dataDir, "scratches", randomBytes(8).toString("hex"));
  await mkdir(place, { recursive: true });
  await writeFile(join(place, OWNER_FILE), formatIdentity(currentProcess()), { mode: 0o600 });
  const name = join(place, "volume");
  await makeOwned(name, user);
  return { name, [Symbol.asyncDispose]: () => removeForeignTree(place) };
}

/** Removes the scratches of dead processes, or all of them. */
export async function removeScratches(dataDir: string, { all }: { readonly all: boolean }): Promise<void> {
  const names = await readdir(join(dataDir, "scratches")).catch(() => []);
  for (const name of names) {
    const place = join(dataDir, "scratches", name);
    const owner = parseIdentity(await readFile(join(place, OWNER_FILE), "utf8").catch(() => ""));
    if (all || (owner !== undefined && livenessOf(owner) === "dead")) await removeForeignTree(place);
  }
}

/** A build may have locked its directories, or put them into each other until no path leads to the last. */
async function removeForeignTree(path: string): Promise<void> {
  const script = 'rm -rf -- "$0" 2>/dev/null || { chmod -R u+rwX -- "$0"; rm -rf -- "$0"; }';
  await promisify(execFile)("/bin/sh", ["-c", script, path]);
}
