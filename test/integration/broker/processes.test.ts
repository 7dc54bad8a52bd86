import { randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { describe, expect, test } from "vitest";
import { ProcessTransport } from "../../../src/broker/process-transport.ts";
import { KeptUpstream } from "../../../src/broker/kept-upstream.ts";
import { BrokerHarness, call, compile, EVERYTHING, MANY_TALENTS, register } from "./broker-harness.ts";
import type { ToolBroker } from "../../../src/broker/tool-broker.ts";

const talents = { command: "node", args: [MANY_TALENTS] };

async function pidsOf(broker: ToolBroker): Promise<number[]> {
  const { structuredContent } = await call(broker, "talents", "pids");
  const { pid, child } = structuredContent as { pid: number; child: number | null };
  return child === null ? [pid] : [pid, child];
}

describe("an upstream that dies", () => {
  test("in the middle of a call fails it with its last words, and is back at the next", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    const dying = call(broker, "talents", "die");
    await expect(dying).rejects.toMatchObject({ code: "upstream-unavailable" });
    await expect(dying).rejects.toThrow(/exit code 3\nlast words about$/);
    await expect(call(broker, "talents", "echo", { back: true })).resolves.toMatchObject({
      structuredContent: { back: true },
    });
  });

  test("of SIGKILL in the middle of calls fails them all, and is back at the next", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", { ...talents, env: { CANCELLED_FILE: "/dev/null" } });
    const [pid = 0] = await pidsOf(broker);
    const calls = [call(broker, "talents", "wait"), call(broker, "talents", "wait")];
    await call(broker, "talents", "echo");
    process.kill(pid, "SIGKILL");
    const ends = await Promise.allSettled(calls);
    for (const end of ends) {
      expect(end).toMatchObject({ status: "rejected", reason: { code: "upstream-unavailable" } });
    }
    expect(await pidsOf(broker)).not.toEqual([pid]);
  });

  test("between calls is back at the next, with what its children were gone", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", { ...talents, env: { WITH_CHILD: "1" } });
    const before = await pidsOf(broker);
    process.kill(before[0] ?? 0, "SIGKILL");
    await Promise.all(before.map(gone));
    const after = await pidsOf(broker);
    expect(after.filter((pid) => before.includes(pid))).toEqual([]);
  });

  test("again and again is left alone for a while", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    await expect(call(broker, "talents", "die")).rejects.toThrow("exit code 3");
    await expect(call(broker, "talents", "die")).rejects.toThrow("exit code 3");
    const refused = call(broker, "talents", "echo");
    await expect(refused).rejects.toMatchObject({
      code: "upstream-unavailable",
      hint: expect.stringContaining("1 s") as string,
    });
    await expect(refused).rejects.toThrow("exit code 3");
  });
});

describe("backing off", () => {
  test("doubles from 1 s to 30 s, and attempts in between cost nothing", async () => {
    let now = 0;
    let attempts = 0;
    const signal = new AbortController().signal;
    const server = new KeptUpstream({
      name: "x",
      params: { type: "stdio", command: "x", args: [], env: {}, timeout: 1 },
      connect: () => Promise.reject(new Error(`attempt ${(attempts += 1)}`)),
      now: () => now,
    });
    for (const waitMs of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
      const expected = attempts + 1;
      await expect(server.get(signal)).rejects.toThrow(`attempt ${expected}`);
      now += waitMs - 1;
      await expect(server.get(signal)).rejects.toMatchObject({ code: "upstream-unavailable" });
      expect(attempts).toBe(expected);
      now += 1;
    }
  });
});

describe("closing", () => {
  test.each([
    ["that end with their stdin", {}],
    ["that ignore the end of stdin and SIGTERM, and their children", { STUBBORN: "1", WITH_CHILD: "1" }],
  ])("ends servers %s", async (_, env) => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", { ...talents, env });
    const pids = await pidsOf(broker);
    await broker[Symbol.asyncDispose]();
    await Promise.all(pids.map(gone));
  });

  test("fails what is in flight", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", { ...talents, env: { CANCELLED_FILE: "/dev/null" } });
    const waiting = call(broker, "talents", "wait");
    await call(broker, "talents", "echo");
    const [end] = await Promise.allSettled([waiting, broker[Symbol.asyncDispose]()]);
    expect(end).toMatchObject({ status: "rejected", reason: { code: "upstream-unavailable" } });
  });

  test("is final: nothing is started afterwards", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    await broker[Symbol.asyncDispose]();
    await expect(call(broker, "talents", "echo")).rejects.toThrow("being closed");
    await expect(register(broker, "talents", talents)).rejects.toThrow("being closed");
  });

  test("leaves no process when connecting failed", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const script = `echo $$ > ${harness.root}/pid; trap "" TERM; sleep 1000 & while true; do wait; done`;
    const params = { command: "sh", args: ["-c", script], timeout: 0.5 };
    await expect(register(broker, "x", params)).rejects.toMatchObject({ code: "upstream-start-failed" });
    await gone(Number(readFileSync(`${harness.root}/pid`, "utf8")));
  });
});

test.each([
  ["that ignores the end of stdin and SIGTERM", [MANY_TALENTS], { STUBBORN: "1", WITH_CHILD: "1" }, 3],
  ["everything, which is real", [EVERYTHING], {}, 2],
])("SIGKILL of our process takes a server %s along, and all its group", async (_, args, env, atLeast) => {
  await using harness = new BrokerHarness();
  const program = compile("src/broker/process-transport.ts", harness.root);
  const options = {
    executable: process.execPath,
    args,
    cwd: "/",
    env: { PATH: process.env["PATH"], ...env },
    mark: newMark(),
  };
  const script = `
    import { ProcessTransport } from ${JSON.stringify(program)};
    const transport = new ProcessTransport(${JSON.stringify(options)});
    transport.onmessage = () => console.log("ready");
    await transport.start();
    await transport.send({ jsonrpc: "2.0", id: 1, method: "ping" });`;
  const host = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(createInterface({ input: host.stdout }), "line");
  const pids = groupsOfChildren(host.pid ?? 0);
  expect(pids.length).toBeGreaterThanOrEqual(atLeast); // the server, its children, and the watchdog
  host.kill("SIGKILL");
  await once(host, "exit");
  await Promise.all(pids.map(gone));
});

describe("a descendant that left the group and closed everything", () => {
  const ESCAPE = "setsid sh -c 'setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $! >\"$PID_FILE\"'; cat >/dev/null";
  const escaping = (root: string) => {
    const mark = newMark();
    const env = { PATH: "/usr/bin:/bin", PID_FILE: `${root}/pid`, MARK: mark };
    return { executable: "/bin/sh", args: ["-c", ESCAPE], cwd: "/", env, mark };
  };
  const pidIn = async (root: string): Promise<number> => {
    const read = () => (existsSync(`${root}/pid`) ? Number(readFileSync(`${root}/pid`, "utf8")) : 0);
    await expect.poll(read, { timeout: 5000 }).toBeGreaterThan(0);
    return read();
  };

  test("is gone when its server is closed, and no other process is", async () => {
    await using harness = new BrokerHarness();
    const bystander = spawn("sleep", ["300"], { detached: true, stdio: "ignore" });
    const transport = new ProcessTransport(escaping(harness.root));
    await transport.start();
    const pid = await pidIn(harness.root);
    expect(isRunning(pid)).toBe(true);
    await transport.close();
    await gone(pid);
    expect(isRunning(bystander.pid ?? 0)).toBe(true);
    bystander.kill();
  });

  test("is gone when our process is killed", async () => {
    await using harness = new BrokerHarness();
    const program = compile("src/broker/process-transport.ts", harness.root);
    const script = `
      import { ProcessTransport } from ${JSON.stringify(program)};
      await new ProcessTransport(${JSON.stringify(escaping(harness.root))}).start();`;
    const host = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "ignore" });
    const pid = await pidIn(harness.root);
    host.kill("SIGKILL");
    await once(host, "exit");
    await gone(pid);
  });
});

test("a transport without a mark does not start", () => {
  const transport = new ProcessTransport({ executable: "/bin/true", args: [], cwd: "/", env: {}, mark: "" });
  expect(() => transport.start()).toThrow("not a mark");
});

test("what a process writes before its end is read to the end", async () => {
  const script = `for (let id = 0; id < 1000; id += 1) console.log(JSON.stringify({ jsonrpc: "2.0", id, result: {} }))`;
  const env = { PATH: process.env["PATH"] ?? "" };
  const transport = new ProcessTransport({
    executable: process.execPath,
    args: ["-e", script],
    cwd: "/",
    env,
    mark: newMark(),
  });
  let messages = 0;
  const closed = new Promise<void>((resolve) => (transport.onclose = resolve));
  transport.onmessage = () => (messages += 1);
  await transport.start();
  await closed;
  expect(messages).toBe(1000);
  expect(transport.end).toBe("exit code 0");
});

test("stderr is kept to the last lines, without control sequences", async () => {
  const script =
    "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; printf '\\033[1mend\\033[0m\\n' >&2";
  const transport = new ProcessTransport({
    executable: "/bin/sh",
    args: ["-c", script],
    cwd: "/",
    env: {},
    mark: newMark(),
  });
  const closed = new Promise<void>((resolve) => (transport.onclose = resolve));
  await transport.start();
  await closed;
  expect(transport.errorLines.split("\n")).toHaveLength(12);
  expect(transport.errorLines).toMatch(/line 1999\nend$/);
});

test("a secret that stderr's limit cuts in two leaves no end behind", async () => {
  const secret = "0123456789".repeat(5);
  const script = `printf '%s\\n%s' ${secret.repeat(1000)} end >&2`;
  const transport = new ProcessTransport({
    executable: "/bin/sh",
    args: ["-c", script],
    cwd: "/",
    env: {},
    mark: newMark(),
  });
  const closed = new Promise<void>((resolve) => (transport.onclose = resolve));
  await transport.start();
  await closed;
  expect(transport.errorLines).toBe("end");
});

function newMark(): string {
  return randomBytes(16).toString("hex");
}

/** Resolves when no process has the id any more; a zombie is none. */
async function gone(pid: number): Promise<void> {
  const deadline = AbortSignal.timeout(5000);
  while (!deadline.aborted) {
    if (!isRunning(pid)) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`process ${pid} is still there`);
}

function isRunning(pid: number): boolean {
  const state = processes().find((process) => process.pid === pid)?.state;
  return state !== undefined && !"ZX".includes(state);
}

/** All members of the process groups that children of `parent` lead. */
function groupsOfChildren(parent: number): number[] {
  const all = processes();
  const groups = new Set(all.filter(({ ppid }) => ppid === parent).map(({ pgid }) => pgid));
  return all.filter(({ pgid }) => groups.has(pgid)).map(({ pid }) => pid);
}

function processes() {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) => {
      const stat = statOf(pid);
      const [state = "", ppid, pgid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return stat === "" ? [] : [{ pid: Number(pid), state, ppid: Number(ppid), pgid: Number(pgid) }];
    });
}

function statOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return ""; // it ended meanwhile
  }
}
