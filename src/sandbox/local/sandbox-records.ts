import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { formatIdentity, livenessOf, parseIdentity, type ProcessIdentity } from "../../common/process-identity.ts";
import { makeStateDirectory } from "../../common/state-directory.ts";

/** What is known of a sandbox without asking it: who made it, what it is, what to remove when its owner is dead. */
export interface SandboxRecord {
  readonly id: string;
  readonly engine: string;
  readonly session: string;
  readonly role: "session" | "installer";
  /** Host path of the workspace. */
  readonly workspace: string;
  /** Its Python environment. */
  readonly environment: string;
  /** Its home and temporary files. */
  readonly directory: string;
  readonly startedAt: number;
  readonly owner: ProcessIdentity;
  readonly init: ProcessIdentity;
}

const identity = z.string().transform((text, context) => {
  const parsed = parseIdentity(text);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: "not a process identity" });
  return z.NEVER;
});

const recordSchema = z.object({
  id: z.string(),
  engine: z.string(),
  session: z.string(),
  role: z.enum(["session", "installer"]),
  workspace: z.string(),
  environment: z.string(),
  directory: z.string(),
  startedAt: z.number(),
  owner: identity,
  init: identity,
});

/** The records of sandboxes that run on this host, in the state directory, which no sandbox may write. */
export class SandboxRecords {
  readonly #directory: string;

  constructor(stateDir: string) {
    this.#directory = join(stateDir, "sandboxes");
  }

  /** Disposing removes the record. */
  async add(record: SandboxRecord): Promise<AsyncDisposable> {
    const path = this.#pathOf(record.id);
    const document = { ...record, owner: formatIdentity(record.owner), init: formatIdentity(record.init) };
    await makeStateDirectory(this.#directory);
    await writeFile(`${path}.new`, JSON.stringify(document), { mode: 0o600 });
    await rename(`${path}.new`, path);
    return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
  }

  /** Every record that can be read, oldest first. */
  async list(): Promise<SandboxRecord[]> {
    const names = await readdir(this.#directory).catch(() => []);
    const records = await Promise.all(names.filter((name) => name.endsWith(".json")).map((name) => this.#read(name)));
    return records.filter((record) => record !== undefined).sort((one, other) => one.startedAt - other.startedAt);
  }

  /** Ends sandboxes and removes what they left; resolves to their ids. */
  async remove(records: readonly SandboxRecord[]): Promise<string[]> {
    for (const record of records) {
      if (livenessOf(record.init) === "alive") kill(record.init.pid);
      await rm(record.directory, { recursive: true, force: true });
      await rm(this.#pathOf(record.id), { force: true });
    }
    return records.map(({ id }) => id);
  }

  #pathOf(id: string): string {
    return join(this.#directory, `${id}.json`);
  }

  async #read(name: string): Promise<SandboxRecord | undefined> {
    try {
      return recordSchema.parse(JSON.parse(await readFile(join(this.#directory, name), "utf8")));
    } catch {
      return undefined; // removed meanwhile, or of another version
    }
  }
}

/** Its helpers and kernels follow: each is killed with its parent. */
function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it ended meanwhile, or is another user's
  }
}
