import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";

const CALL_TIMEOUT_MS = 600_000;

/** One server, spawned by a real MCP client, in a workspace of its own. */
export class Session {
  #client;
  #transport;
  #directory;
  #ownsDirectory;

  constructor(client, transport, directory, ownsDirectory) {
    this.#client = client;
    this.#transport = transport;
    this.#directory = directory;
    this.#ownsDirectory = ownsDirectory;
    this.workspace = join(directory, "workspace");
  }

  /** Spawns and initializes. `directory` holds state and workspace; without one a new one is made, and removed at the end. */
  static async open({ command, args, environment, directory }) {
    const base = directory ?? mkdtempSync(join(tmpdir(), "ipybox-bench-"));
    mkdirSync(join(base, "workspace"), { recursive: true });
    const transport = new StdioClientTransport({
      command,
      args: [...args, "--workspace", join(base, "workspace")],
      cwd: join(base, "workspace"),
      env: { ...process.env, ...environment(base) },
      stderr: "pipe",
    });
    let log = "";
    transport.stderr.on("data", (chunk) => (log = (log + chunk).slice(-2000)));
    const client = new Client({ name: "bench", version: "1.0.0" });
    await client.connect(transport, { timeout: 120_000 }).catch((error) => {
      if (directory === undefined) rmSync(base, { recursive: true, force: true });
      throw new Error(`${error.message}\n${log}`, { cause: error });
    });
    return new Session(client, transport, base, directory === undefined);
  }

  get pid() {
    return this.#transport.pid;
  }

  /** The text of a call's result; throws when it is an error. */
  async call(name, args, options = {}) {
    const result = await this.#client.callTool({ name, arguments: args }, undefined, {
      timeout: CALL_TIMEOUT_MS,
      ...options,
    });
    const text = result.content.map((block) => block.text ?? "").join("\n");
    if (result.isError) throw new Error(`${name}: ${text}`);
    return text;
  }

  cell(code, args = {}, options = {}) {
    return this.call("execute_ipython_cell", { code, ...args }, options);
  }

  /** What a cell measured: its variable `samples`. Through a file, since the original loses output now and then. */
  async samples(code) {
    await this.cell(`${code}\nopen("samples.json", "w").write(json.dumps(samples))`);
    return JSON.parse(readFileSync(join(this.workspace, "samples.json"), "utf8"));
  }

  /** Ends the server as a client does, and resolves when its process has ended. */
  async [Symbol.asyncDispose]() {
    try {
      await this.#client.close();
    } finally {
      if (this.#ownsDirectory) rmSync(this.#directory, { recursive: true, force: true });
    }
  }
}

/** Opens a session, runs `action` in it and ends it. */
export async function withSession(subject, action, options = {}) {
  const session = await subject.open(options);
  try {
    return await action(session);
  } finally {
    await session[Symbol.asyncDispose]();
  }
}

/** As one that has been at work for a while: what a first cell starts in the background has ended. */
export function withWarmSession(subject, action) {
  return withSession(subject, async (session) => {
    await repeat(50, () => session.cell("2 + 2"));
    await setTimeout(3000); // until the spare kernel and the generator are ready
    return action(session);
  });
}

/** Milliseconds that `action` takes. */
export async function timed(action) {
  const startedAt = performance.now();
  await action();
  return performance.now() - startedAt;
}

/** `count` results of `action`, one after the other. */
export async function repeat(count, action) {
  const results = [];
  for (let index = 0; index < count; index += 1) results.push(await action(index));
  return results;
}
