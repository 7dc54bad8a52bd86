import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { promisify } from "node:util";

import type { Container } from "dockerode";
import { afterEach, beforeEach, describe, expect, inject, test } from "vitest";

import { ReleaseStack } from "../../src/common/lifecycle.ts";
import { currentProcess, formatIdentity } from "../../src/common/process-identity.ts";
import { baseEnvironment, TestDirectory, upstream } from "../helpers/client.ts";
import { containersOf, docker, SessionUnderAttack } from "./session-under-attack.ts";

const GONE_WITHIN_MS = 5000;

/** A server that is spoken to line by line, so that it can be killed at any point. */
class Victim implements Disposable {
  readonly directory = new TestDirectory();
  readonly workspace = this.directory.make("workspace");
  readonly run = this.directory.make("run");
  readonly mark = `mark-${this.directory.path}`;
  readonly server: ChildProcess;
  #id = 0;

  constructor(args: readonly string[] = []) {
    this.server = spawn(inject("ipyboxBin"), ["--workspace", this.workspace, "--log-level", "debug", ...args], {
      env: { ...baseEnvironment(this.directory), XDG_RUNTIME_DIR: this.run, MARK: this.mark },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.server.stdin?.on("error", () => undefined);
    const clientInfo = { name: "test", version: "1" };
    this.send("initialize", { protocolVersion: "2025-06-18", capabilities: {}, clientInfo });
    this.#write({ jsonrpc: "2.0", method: "notifications/initialized" });
  }

  /** The answer to a call. */
  async call(name: string, args: object): Promise<string> {
    const id = this.send("tools/call", { name, arguments: args });
    if (this.server.stdout === null) throw new Error("no output");
    for await (const line of createInterface({ input: this.server.stdout })) {
      if ((JSON.parse(line) as { id?: number }).id === id) return line;
    }
    throw new Error("the server ended");
  }

  send(method: string, params: object): number {
    const id = ++this.#id;
    this.#write({ jsonrpc: "2.0", id, method, params });
    return id;
  }

  cell(code: string): number {
    return this.send("tools/call", { name: "execute_ipython_cell", arguments: { code } });
  }

  async kill(): Promise<void> {
    const gone = once(this.server, "exit");
    this.server.kill("SIGKILL");
    await gone;
  }

  /** Containers, volumes of its own, processes with its mark, and run directories. */
  async leftovers(): Promise<string[]> {
    const base = join(this.run, "ipybox");
    return [
      ...(await containersOf(this.workspace)).map((container) => `container ${container.Status}`),
      ...(await this.#volumes()),
      ...processesWith(this.mark),
      ...(existsSync(base) ? readdirSync(base) : []),
    ];
  }

  async #volumes(): Promise<string[]> {
    const { Volumes } = await docker.listVolumes({ filters: { label: ["io.ipybox.owner"] } });
    const isOurs = (owner = "") => owner.split(":")[3] === String(this.server.pid);
    return Volumes.filter(({ Labels }) => isOurs(Labels["io.ipybox.owner"])).map(({ Name }) => Name);
  }

  #write(message: object): void {
    this.server.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  [Symbol.dispose](): void {
    this.server.kill("SIGKILL");
    this.directory[Symbol.dispose]();
  }
}

let victim: Victim;
beforeEach(() => {
  victim = new Victim();
});
afterEach(() => victim[Symbol.dispose]());

/** Resolves when the engine says `action` of a container of the victim's. */
async function engineSays(action: "create" | "start"): Promise<void> {
  const filters = JSON.stringify({ event: [action], label: [`io.ipybox.workspace=${victim.workspace}`] });
  const events = Readable.from(await docker.getEvents({ filters }));
  await once(events, "data");
  events.on("error", () => undefined).destroy();
}

const appears = (path: string): Promise<void> => expect.poll(() => existsSync(path), { timeout: 60_000 }).toBe(true);
const made = (name: string) => appears(join(victim.workspace, name));

describe("a server that is killed leaves no container, process or directory", () => {
  test.for([
    ["while it connects to the engine", () => Promise.resolve()],
    ["when its run directory is there", () => appears(join(victim.run, "ipybox"))],
    ["when its container has just started", () => engineSays("start")],
    [
      "while it waits for the gateway",
      async () => {
        await engineSays("start");
        await expect.poll(() => containersOf(victim.workspace)).toHaveLength(1);
      },
    ],
    [
      "while its first cell waits for a kernel",
      async () => {
        victim.cell("1");
        await engineSays("start");
      },
    ],
    [
      "in a cell that has children and ignores signals",
      async () => {
        victim.cell(`import os, signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)
for _ in range(5): subprocess.Popen(["setsid", "sleep", "1000"])
open("running", "w").close()
while True: pass`);
        await made("running");
      },
    ],
    [
      "in a registration, with an upstream that ignores the end of its input",
      async () => {
        // The sandbox is up: the moment between its creation and start has a test of its own.
        await victim.call("execute_ipython_cell", { code: "1" });
        const script = `process.stdin.on("end", () => undefined); process.on("SIGTERM", () => undefined); setInterval(() => undefined, 1000);
require("node:fs").writeFileSync(process.argv[1], "")`;
        const params = {
          command: process.execPath,
          args: ["-e", script, join(victim.directory.path, "up")],
          env: { MARK: "${MARK}" },
        };
        victim.send("tools/call", {
          name: "register_mcp_server",
          arguments: { server_name: "stubborn", server_params: params },
        });
        await appears(join(victim.directory.path, "up"));
      },
    ],
    [
      "in an install",
      async () => {
        victim.send("tools/call", { name: "install_package", arguments: { package_name: "cowsay==6.1" } });
        const installers = async () =>
          (await containersOf(victim.workspace)).filter(
            ({ Labels, State }) => Labels["io.ipybox.role"] === "installer" && State === "running",
          );
        await expect.poll(installers, { timeout: 60_000 }).toHaveLength(1);
      },
    ],
    [
      "in a build",
      async () => {
        const source = join(victim.workspace, "lingering");
        mkdirSync(source);
        writeFileSync(
          join(source, "pyproject.toml"),
          '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        );
        writeFileSync(join(source, "backend.py"), "import signal\nsignal.pause()\n");
        victim.send("tools/call", { name: "install_package", arguments: { package_name: "./lingering" } });
        const builders = async () =>
          (await containersOf(victim.workspace)).filter(
            ({ Mounts, State }) =>
              State === "running" && Mounts.some(({ Name }) => Name?.startsWith("ipybox-scratch-") === true),
          );
        await expect.poll(builders, { timeout: 60_000 }).toHaveLength(1);
        expect(await victim.leftovers()).toContainEqual(expect.stringMatching(/^ipybox-scratch-/));
      },
    ],
    [
      "in its shutdown",
      async () => {
        await victim.call("execute_ipython_cell", { code: "1" });
        victim.server.stdin?.end();
      },
    ],
  ] as const)("%s", async ([, reached]) => {
    await reached();
    await victim.kill();
    await expect.poll(() => victim.leftovers(), { timeout: GONE_WITHIN_MS }).toEqual([]);
  });

  test("between the creation of its container and the start", async () => {
    await engineSays("create");
    await victim.kill();
    await expect.poll(() => victim.leftovers(), { timeout: GONE_WITHIN_MS }).toEqual([]);
  });
});

test("a server that stands still for a while, as on a machine that sleeps, loses neither its sandbox nor its cell", async () => {
  const answered = victim.call("execute_ipython_cell", {
    code: `import os
os.mkfifo("go on")
open("begun", "w").close()
_ = open("go on").read()
6 * 7`,
  });
  await made("begun");
  victim.server.kill("SIGSTOP");
  // Another server starts, sweeps, and has a whole session meanwhile; what is asked for by hand is swept as well.
  await using other = await SessionUnderAttack.open();
  const pruned = other.directory.make("pruned");
  // An image user of its own: nobody's kernel images are old because of this test.
  if (process.getuid?.() === 0) chownSync(pruned, 1000, 54_321);
  await promisify(execFile)(inject("ipyboxBin"), ["prune"], {
    cwd: pruned,
    env: baseEnvironment(other.directory),
  });
  expect(await containersOf(victim.workspace)).toHaveLength(1);
  writeFileSync(join(victim.workspace, "go on"), "");
  victim.server.kill("SIGCONT");
  expect(await answered).toContain('"text":"42"');
});

describe("a client that is killed", () => {
  test("takes its server and all of that with it", async () => {
    const script = `const { spawn } = require("node:child_process");
const server = spawn(process.argv[1], ["--workspace", process.argv[2]], { stdio: ["pipe", "ignore", "ignore"] });
server.stdin.write(process.argv[3]); setInterval(() => undefined, 1000);`;
    const initialize = { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "test", version: "1" } };
    const call = { name: "execute_ipython_cell", arguments: { code: "open('up', 'w').close()\nwhile True: pass" } };
    const lines = [
      { jsonrpc: "2.0", id: 1, method: "initialize", params: initialize },
      { jsonrpc: "2.0", method: "notifications/initialized" },
      { jsonrpc: "2.0", id: 2, method: "tools/call", params: call },
    ];
    const input = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    await victim.kill();
    const client = spawn(process.execPath, ["-e", script, inject("ipyboxBin"), victim.workspace, input], {
      env: { ...baseEnvironment(victim.directory), XDG_RUNTIME_DIR: victim.run, MARK: victim.mark },
      stdio: "ignore",
    });
    await made("up");
    client.kill("SIGKILL");
    await expect.poll(() => victim.leftovers(), { timeout: GONE_WITHIN_MS }).toEqual([]);
  });
});

describe("two servers", () => {
  test("sweep only the dead: one that starts leaves the living and what it can't judge alone", async () => {
    await using living = await SessionUnderAttack.open();
    await living.client.text("kept = 1");
    const self = currentProcess();
    const owners = {
      dead: { ...self, startTime: "1" },
      alive: self,
      "of another machine": { ...self, machine: "another" },
      "of another container": { ...self, pidNamespace: "1" },
    };
    // No lifeline would end these.
    const place = join(living.workspace, "left");
    await using left = new ReleaseStack();
    for (const [session, owner] of Object.entries(owners)) {
      const container = await startSleeper(living.image, place, session, formatIdentity(owner));
      left.defer(() => container.remove({ force: true }).catch(() => undefined));
    }
    await using next = await SessionUnderAttack.open();
    const sessions = async () => (await containersOf(place)).map(({ Labels }) => Labels["io.ipybox.session"]).sort();
    const spared = Object.keys(owners).filter((name) => name !== "dead");
    await expect.poll(sessions, { timeout: GONE_WITHIN_MS }).toEqual(spared.sort());
    expect(next.containerId).not.toBe(living.containerId);
    expect(await living.client.text("kept")).toBe("1");
  });

  test("and an upstream with children of its own is gone with its server", async () => {
    const params = {
      command: "sh",
      args: ["-c", `sleep 1000 & exec ${[upstream("memory").command, ...upstream("memory").args].join(" ")}`],
      env: { MARK: "${MARK}" },
    };
    const said = await victim.call("register_mcp_server", { server_name: "memory", server_params: params });
    expect(said).toContain("read_graph");
    await victim.kill();
    await expect.poll(() => victim.leftovers(), { timeout: GONE_WITHIN_MS }).toEqual([]);
  });
});

/** A container with the labels of a sandbox, in which there is no init of ours. */
async function startSleeper(image: string, workspace: string, session: string, owner: string): Promise<Container> {
  const container = await docker.createContainer({
    Image: image,
    Entrypoint: ["sleep", "600"],
    Labels: {
      "io.ipybox.session": session,
      "io.ipybox.owner": owner,
      "io.ipybox.workspace": workspace,
      "io.ipybox.role": "session",
    },
    HostConfig: { NetworkMode: "none" },
  });
  await container.start();
  return container;
}

function processesWith(mark: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, "latin1").includes(mark);
    } catch {
      return false; // it ended just now, or is another user's
    }
  });
}
