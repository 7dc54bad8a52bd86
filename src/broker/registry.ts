import { randomUUID } from "node:crypto";
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { systemCodeOf } from "../common/errors.ts";
import { withHostLock } from "../common/host-lock.ts";
import type { Logger } from "../common/logger.ts";
import { type ServerParams, storedParams } from "./server-params.ts";

const registeredServer = z.object({
  /** Placeholders unresolved. */
  params: storedParams,
  /** In the server's order, with the Python module that each one has. */
  tools: z.array(z.object({ name: z.string(), module: z.string() })),
});

const registryFile = z.object({ version: z.literal(1), servers: z.record(z.string(), registeredServer) });

/** What the state directory knows of a registered server. */
export interface RegisteredServer {
  readonly params: ServerParams;
  readonly tools: readonly RegisteredTool[];
}

export interface RegisteredTool {
  readonly name: string;
  readonly module: string;
}

/**
 * The registrations of a workspace, shared by all servers that work in it: one JSON file, readable by its owner only,
 * changed under a lock and replaced at once, so that a reader never sees half of it.
 */
export class Registry {
  readonly #path: string;
  readonly #logger: Logger;

  /** `directory`: the workspace's own in the state directory. It is made at the first change. */
  constructor(directory: string, logger: Logger) {
    this.#path = join(directory, "servers.json");
    this.#logger = logger;
  }

  async all(): Promise<ReadonlyMap<string, RegisteredServer>> {
    const content = await this.#read();
    if (content === undefined) return new Map();
    const parsed = registryFile.safeParse(parseJson(content));
    if (parsed.success) return new Map(Object.entries(parsed.data.servers));
    this.#logger.warn("The registrations are unreadable and count as none", { path: this.#path });
    return new Map();
  }

  async get(name: string): Promise<RegisteredServer | undefined> {
    return (await this.all()).get(name);
  }

  async set(name: string, server: RegisteredServer): Promise<void> {
    await this.#change((servers) => servers.set(name, server));
  }

  /** A registered server has other tools now; one that is not registered any more stays so. */
  async setTools(name: string, tools: readonly RegisteredTool[]): Promise<void> {
    await this.#change((servers) => {
      const server = servers.get(name);
      if (server !== undefined) servers.set(name, { ...server, tools: [...tools] });
    });
  }

  /** Resolves to whether there was one. */
  async remove(name: string): Promise<boolean> {
    return await this.#change((servers) => servers.delete(name));
  }

  async #change<T>(change: (servers: Map<string, RegisteredServer>) => T): Promise<T> {
    return await withHostLock(this.#path, {}, async () => {
      const servers = new Map(await this.all());
      const result = change(servers);
      await this.#replace(JSON.stringify({ version: 1, servers: Object.fromEntries(servers) }, null, 2));
      return result;
    });
  }

  async #replace(content: string): Promise<void> {
    const temporary = `${this.#path}.${randomUUID()}`;
    try {
      await writeFile(temporary, content, { mode: 0o600, flag: "wx" });
      await rename(temporary, this.#path);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async #read(): Promise<string | undefined> {
    try {
      return await readFile(this.#path, "utf8");
    } catch (error) {
      if (systemCodeOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
