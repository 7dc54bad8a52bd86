import { existsSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { upstream } from "../helpers/client.ts";
import { containersOf, SessionUnderAttack, withoutWalls } from "./session-under-attack.ts";

let attacked: SessionUnderAttack;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open();
  await attacked.client.call("register_mcp_server", { server_name: "memory", server_params: upstream("memory") });
  await attacked.client.call("reset"); // a spare has been made by then, and the generator is there
  await attacked.client.text("1");
});
afterAll(() => attacked[Symbol.asyncDispose]());

const HELPERS = ["init", "gateway", "fork_server", "apigen.worker"];

const INSPECTIONS = [
  ["memory", (pid: string) => `open(f"/proc/{${pid}}/mem", "rb")`],
  ["environment", (pid: string) => `open(f"/proc/{${pid}}/environ", "rb")`],
  ["memory map", (pid: string) => `open(f"/proc/{${pid}}/maps").read()`],
  ["descriptors", (pid: string) => `os.listdir(f"/proc/{${pid}}/fd")`],
  ["root directory", (pid: string) => `os.readlink(f"/proc/{${pid}}/root")`],
  ["system calls, by ptrace", (pid: string) => `checked(libc.ptrace(16, ${pid}, None, None))`],
  ["sockets, by pidfd_getfd", (pid: string) => `syscall("pidfd_getfd", os.pidfd_open(${pid}), 0, 0)`],
  ["memory, by process_vm_readv", (pid: string) => `peek(${pid})`],
] as const;

describe("helpers are not dumpable: a cell can't read", () => {
  for (const helper of HELPERS) {
    test.for(INSPECTIONS)(`%s of ${helper}`, async ([, inspect]) => {
      expect(await attacked.tries(inspect(`pid_of("${helper}")`))).toMatch(
        /^refused: (PermissionError|ProcessLookupError)/,
      );
    });
  }

  test.for(INSPECTIONS)("%s of the spare kernel", async ([, inspect]) => {
    // Of the fork server's grandchildren, the one that is not this kernel.
    const spare = `[int(pid) for reaper in open(f"/proc/{pid_of('fork_server')}/task/{pid_of('fork_server')}/children").read().split()
 for pid in open(f"/proc/{reaper}/task/{reaper}/children").read().split() if int(pid) != os.getpid()][0]`;
    expect(await attacked.tries(inspect(`(${spare.replaceAll("\n", "")})`))).toMatch(
      /^refused: (PermissionError|ProcessLookupError)/,
    );
  });

  test.for(INSPECTIONS)(
    "though %s of a process of its own can be read, where the engine's profile lets it",
    async ([, inspect]) => {
      const code = inspect("running_child()");
      expect(await withoutWalls(attacked.image, code, { SecurityOpt: ["seccomp=unconfined"] })).toMatch(/^succeeded/);
    },
  );

  test("nor its own kernel be read by a program that it starts, though a child of its own can", async () => {
    const read = (pid: string) =>
      `subprocess.run(["head", "-c0", f"/proc/{${pid}}/environ"], check=True, stderr=-1).returncode`;
    expect(await attacked.tries(read("os.getpid()"))).toMatch(/^refused: CalledProcessError/);
    expect(await attacked.tries(read("running_child()"))).toBe("succeeded: 0");
  });
});

describe("what the sockets tell apart: a cell can't", () => {
  const asks = (line: string) => `with socket.socket(socket.AF_UNIX) as stream:
    stream.settimeout(5)
    stream.connect("/run/ipybox/gateway.sock")
    stream.sendall(b'${line}\\n')
    answer = stream.recv(4096)
answer or fail(errno.ECONNRESET)`;

  test.for([
    ["become init, and be told the token", `{"role":"init","version":1}`],
    ["become a gateway without the token", `{"role":"gateway","token":"00000000000000000000000000000000"}`],
    ["become something else", `{"role":"host"}`],
    ["be heard in no words of the protocol", `not json`],
  ] as const)("%s", async ([, line]) => {
    expect(await attacked.tries(asks(line))).toMatch(/^refused: (ConnectionResetError|BrokenPipeError)/);
  });

  test("see a token on a command line or in an environment", async () => {
    const code = `[path for path in glob.glob("/proc/[0-9]*/cmdline") if b"token=" in open(path, "rb").read()]`;
    expect(await attacked.tries(code)).toBe("succeeded: []");
  });

  test("reach the sockets of another session of the same workspace", async () => {
    const other = await SessionUnderAttack.open();
    try {
      const sources = `[line.split()[3] for line in open("/proc/self/mountinfo") if " /run/ipybox " in line]`;
      const theirs = await other.tries(sources);
      const ours = await attacked.tries(sources);
      expect(theirs).toMatch(/^succeeded: \['\//);
      expect(ours).not.toBe(theirs);
      const path = /'(.*)'/.exec(theirs)?.[1] ?? "";
      for (const place of [path, `/run/ipybox/..${path}`, `/proc/1/root${path}`, `/proc/1/cwd/../..${path}`]) {
        expect(await attacked.tries(`connected("${place}/tools.sock", socket.AF_UNIX)`)).toMatch(
          /^refused: (FileNotFoundError|PermissionError|OSError: AF_UNIX path too long)/,
        );
      }
      expect(await attacked.tries(`os.listdir("/run/ipybox")`)).toMatch(
        /^succeeded: \[('(gateway|tools).sock'|, |'empty')+\]|^refused: PermissionError/,
      );
    } finally {
      await other[Symbol.asyncDispose]();
    }
  });
});

describe("init can't be stopped: a cell", () => {
  test.for(["SIGSTOP", "SIGKILL", "SIGTERM", "SIGINT", "SIGTSTP", "SIGUSR1", "SIGCHLD", "SIGSEGV"])(
    "that sends it %s changes nothing",
    async (name) => {
      expect(await attacked.tries(`os.kill(1, signal.${name})`)).toBe("succeeded: None");
      expect(await attacked.tries(`open("/proc/1/stat").read().split()[2]`)).toMatch(/'[SR]'/);
    },
  );

  test.for([
    ["a lower priority", (pid: string) => `os.setpriority(os.PRIO_PROCESS, ${pid}, 19)`],
    [
      "no processor but what nobody else wants",
      (pid: string) => `os.sched_setscheduler(${pid}, os.SCHED_IDLE, os.sched_param(0))`,
    ],
    ["a processor that is kept busy", (pid: string) => `os.sched_setaffinity(${pid}, {0})`],
    [
      "the disk when nobody else wants it",
      (pid: string) =>
        `checked(libc.syscall(251 if os.uname().machine == "x86_64" else 30, 1, ${pid}, 3 << 13)) and None`,
    ],
    ["fewer resources", (pid: string) => `__import__("resource").prlimit(${pid}, 0, (1, 1)) and None`],
  ] as const)("can't give it %s, as it can a process of its own", async ([, slow]) => {
    expect(await attacked.tries(slow("1"))).toMatch(/^refused: PermissionError/);
    expect(await attacked.tries(slow("running_child()"))).toMatch(/^succeeded: (None|0)/);
  });

  test("that stops every process and loses its server ends with it all the same", async () => {
    const victim = await SessionUnderAttack.open();
    try {
      // It may not be answered: the gateway is among what it stops.
      void victim.client
        .cell(
          `import os, signal
os.kill(1, signal.SIGSTOP)
for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
    if pid not in (1, os.getpid()):
        try: os.kill(pid, signal.SIGSTOP)
        except OSError: pass
open("stopped", "w").close()
while True: pass`,
        )
        .catch(() => undefined);
      await expect.poll(() => existsSync(join(victim.workspace, "stopped")), { timeout: 10_000 }).toBe(true);
      process.kill(victim.client.transport.pid ?? 0, "SIGKILL");
      await expect.poll(() => containersOf(victim.workspace), { timeout: 5000 }).toEqual([]);
    } finally {
      await victim[Symbol.asyncDispose]();
    }
  });
});
