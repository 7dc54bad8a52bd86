import { execFileSync } from "node:child_process";
import { existsSync, rmSync, watch } from "node:fs";
import { join } from "node:path";

import { describe, expect } from "vitest";

import { type CallOptions, metaOf, type TestClient, textOf, upstream } from "../helpers/client.ts";
import { ENGINE_OF_RUN, LIMITED, onEngines, UNDER_GVISOR } from "../helpers/engine-of-run.ts";
import { test } from "../helpers/session.ts";

// So that a fork bomb is soon at its limit. gVisor's own threads count as well, and that many has a sandbox at rest.
test.override("options", { args: UNDER_GVISOR ? [] : ["--pids", "200"] });

const INTERRUPTED = "[Timed out after 1 s: the cell was interrupted; variables are kept]";
const KILLED = "[Timed out after 1 s: the kernel was killed; variables are lost]";
const REPLACED = "[Timed out after 1 s: the sandbox was replaced; variables are lost]";

const lastLine = (text: string) => text.split("\n").at(-1);
const signalTo = (program: string, signal: string) =>
  `import os, pathlib, signal, time\n` +
  `for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n` +
  `    if b'ipybox_sandbox.${program}' in path.read_bytes(): os.kill(int(path.parent.name), signal.${signal})\n` +
  `open('started', 'w').close()\nwhile True: time.sleep(1)`;
const FORK_BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass";
/** Its processes are in `fork` nearly all the time, and far from the limit. */
const FORKERS = `import os, time
start, held = os.pipe()
if all(os.fork() for _ in range(50)):
    os.close(held)
    open("started", "w").close()
    time.sleep(60)
os.close(held)
os.read(start, 1)
while True:
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)`;
const COUNT_PROCESSES = "import os; sum(name.isdigit() for name in os.listdir('/proc'))";
const STOP_GENERATOR = signalTo("apigen.worker", "SIGSTOP").split("\nopen(")[0] ?? "";
/** The kernel below the fork server that is not the cell's own, as soon as it is there. */
const STOP_SPARE = `import os, pathlib, signal
def parent(pid):
    try: return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    except OSError: return None # it has ended meanwhile
children = lambda pid: [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*") if parent(path.name) == pid]
kernels = lambda: [kernel for reaper in children(parent(os.getppid())) for kernel in children(reaper)]
while not (spare := [kernel for kernel in kernels() if kernel != os.getpid()]): pass
os.kill(spare[0], signal.SIGSTOP)`;
/** What would hit the whole host without a container: its disk, its memory, sandboxes of others. */
const inContainer = <T>(rows: readonly T[]) => (ENGINE_OF_RUN === "docker" ? rows : []);
/** gVisor's memory is that of all its processes, so Linux ends it as a whole. */
const AFTER_OUT_OF_MEMORY = UNDER_GVISOR ? "a new sandbox is made for the next cell" : "a new kernel is running";
const OUT_OF_MEMORY = [
  "a kernel out of memory",
  "x = bytearray(3 * 2**30)",
  "out of memory, limit 2 GiB",
  AFTER_OUT_OF_MEMORY,
] as const;
const SLEEPS = "import time\nopen('started', 'w').close()\ntime.sleep(60)";
const IGNORES_INTERRUPTS =
  "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)";

describe("at its timeout", () => {
  test.for([
    ["a cell that sleeps", "import time\ntime.sleep(60)", INTERRUPTED],
    ["a cell that awaits", "import asyncio\nawait asyncio.sleep(60)", INTERRUPTED],
    ["a shell command", "!sleep 60", INTERRUPTED],
    ["a cell that ignores interrupts", IGNORES_INTERRUPTS, KILLED],
    ["a loop in C", "sum(range(10**15))", KILLED],
    ["a cell that stopped its own process", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", KILLED],
    [
      "a cell that stopped the process above it",
      `import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n${IGNORES_INTERRUPTS}`,
      KILLED,
    ],
    ...inContainer([
      ["a cell that filled /tmp", "!cat /dev/zero > /tmp/full; sleep 60", INTERRUPTED],
      ["a cell that stopped the gateway", signalTo("gateway", "SIGSTOP"), REPLACED],
      ["a cell that stopped the fork server", signalTo("fork_server", "SIGSTOP"), REPLACED],
    ] as const),
  ] as const)("%s is stopped, told of, and the next cell works", async ([, code, words], { client }) => {
    await client.cell("kept = 1");
    const result = await client.cell(code, { timeout: 1 });
    expect(lastLine(textOf(result))).toBe(words);
    expect(metaOf(result)).toMatchObject({ status: "timeout", stateKept: words === INTERRUPTED });
    expect(await client.text("'kept' in globals()")).toBe(words === INTERRUPTED ? "True" : "False");
  });

  if (LIMITED) {
    test("a fork bomb is stopped, whenever an interrupt would come, and the next cell works", async ({ client }) => {
      for (let round = 0; round < 3; round += 1) {
        const result = await client.cell(FORK_BOMB, { timeout: 1, max_output_chars: 100 });
        expect([KILLED, REPLACED]).toContain(lastLine(textOf(result)));
        expect(Number(await client.text(COUNT_PROCESSES))).toBeLessThan(20);
      }
    });
  }

  test("what a killed kernel left behind is gone, daemons included", async ({ client }) => {
    const daemon = "import subprocess\nsubprocess.run(['setsid', 'sh', '-c', 'setsid sleep 987 &'])\n";
    await client.cell(`${daemon}${IGNORES_INTERRUPTS}`, { timeout: 1 });
    const left = "[p for p in __import__('pathlib').Path('/proc').glob('[0-9]*/cmdline') if b'987' in p.read_bytes()]";
    expect(await client.text(left)).toBe("[]");
  });
});

describe("cancellation", () => {
  test("of a waiting cell keeps it from running, and of a running one lets the next run", async ({ client }) => {
    await client.cell("ran = []");
    const [first, second] = [new AbortController(), new AbortController()];
    const running = await begin(client, SLEEPS, { signal: first.signal });
    const waiting = client.cell("ran.append('waiting')", {}, { signal: second.signal });
    const behind = client.text("ran.append('behind'); ran");
    second.abort();
    first.abort();
    await expect(waiting).rejects.toThrow();
    await expect(running.answer).rejects.toThrow();
    expect(await behind).toBe("['behind']");
    expect(client.stderr).not.toContain("unexpected error");
  });

  test("of a cell that ignores interrupts takes its kernel, and the next cell runs", async ({ client }) => {
    const cancel = new AbortController();
    const ignoring = `import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n${SLEEPS}`;
    const cell = await begin(client, ignoring, { signal: cancel.signal });
    cancel.abort();
    await expect(cell.answer).rejects.toThrow();
    expect(await client.text("1 + 1")).toBe("2");
  });

  // Under gVisor so many processes are beyond the limit.
  if (LIMITED && !UNDER_GVISOR) {
    test("of a cell that forks all the time, far from the limit, leaves nothing of it", async ({ client }) => {
      const cancel = new AbortController();
      const running = await begin(client, FORKERS, { signal: cancel.signal });
      cancel.abort();
      await expect(running.answer).rejects.toThrow();
      expect(Number(await client.text(COUNT_PROCESSES))).toBeLessThan(20);
    });
  }

  test("at any moment after the call stops the cell and keeps the variables", async ({ client }) => {
    await client.cell("count = 0");
    for (let i = 1; i <= 10; i += 1) {
      const cancel = new AbortController();
      const cell = client.cell("import time\ntime.sleep(60)", {}, { signal: cancel.signal });
      setImmediate(() => cancel.abort());
      await expect(cell).rejects.toThrow();
      expect(await client.text("count += 1; count")).toBe(String(i));
    }
  });
});

describe("reset", () => {
  test.for([
    ["interrupts a running cell", SLEEPS, "the cell was interrupted"],
    ...inContainer([
      [
        "works where the gateway was stopped",
        signalTo("gateway", "SIGSTOP"),
        "the sandbox was replaced; variables are lost",
      ],
    ] as const),
  ] as const)("%s", async ([, code, words], { client }) => {
    const cell = await begin(client, code);
    expect((await client.call("reset")).isError).toBeFalsy();
    const result = await cell.answer;
    expect(lastLine(textOf(result))).toBe(`[Stopped by reset: ${words}]`);
    expect(metaOf(result).status).toBe("cancelled");
    expect(await client.text("1 + 1")).toBe("2");
  });

  test("interrupts a cell that was sent right before it", async ({ client }) => {
    const [result, reset] = await Promise.all([client.cell(SLEEPS), client.call("reset")]);
    expect(textOf(result)).toBe("[Stopped by reset: the cell was interrupted]");
    expect(reset.isError).toBeFalsy();
  });

  test.for(
    inContainer([
      ["the spare kernel", STOP_SPARE],
      ["the generator", STOP_GENERATOR],
    ] as const),
  )("takes a new sandbox where %s was stopped", async ([, code], { client }) => {
    await client.register("thinking", upstream("sequential-thinking")); // which starts the generator
    expect(await client.text("open('/tmp/of-this-sandbox', 'w').close()")).toBe("");
    expect(await client.text(code)).toBe("");
    expect((await client.call("reset")).isError).toBeFalsy();
    expect(await client.text("import os; os.path.exists('/tmp/of-this-sandbox')")).toBe("False");
  });
});

describe("the end of", () => {
  test.for([
    ["a kernel that exits", "import os\nos._exit(3)", "exit code 3", "a new kernel is running"],
    [
      "a kernel that is killed",
      "import os\nos.kill(os.getpid(), 9)\nimport time; time.sleep(9)",
      "SIGKILL",
      "a new kernel is running",
    ],
    ...(LIMITED ? [OUT_OF_MEMORY] : []),
    ...inContainer([
      ["the gateway", signalTo("gateway", "SIGKILL"), "its sandbox ended", "a new sandbox is made for the next cell"],
      [
        "the fork server",
        signalTo("fork_server", "SIGKILL"),
        "its sandbox ended",
        "a new sandbox is made for the next cell",
      ],
    ] as const),
  ] as const)("%s is told of with its cause, and the next cell works", async ([, code, cause, next], { client }) => {
    const result = await client.cell(code);
    expect(lastLine(textOf(result))).toBe(`[The kernel died (${cause}); ${next}; variables and imports are lost]`);
    expect(metaOf(result)).toMatchObject({ status: "died", stateKept: false });
    expect(textOf(await client.cell("1 + 1"))).toBe("2");
  });

  if (LIMITED) {
    test("a cell's child out of memory is told of, and the next cell works", async ({ client }) => {
      await client.cell("import subprocess, sys\nkept = 1");
      const result = await client.cell("subprocess.run([sys.executable, '-c', 'x = bytearray(3 * 2**30)']).returncode");
      expect(textOf(result)).toBe(
        UNDER_GVISOR
          ? `[The kernel died (out of memory, limit 2 GiB); ${AFTER_OUT_OF_MEMORY}; variables and imports are lost]`
          : "-9\n[Out of memory: a process in the sandbox was killed while this cell ran]",
      );
      expect(await client.text("'kept' in globals()")).toBe(UNDER_GVISOR ? "False" : "True");
    });
  }

  test("a kernel between two cells is told of by the next", async ({ client }) => {
    const ended = "import os, subprocess\nsubprocess.Popen(['sh', '-c', f'sleep 0.2; kill -9 {os.getpid()}'])";
    await client.cell(ended);
    // It ends between the two, or during the first.
    const [first, second] = [await client.cell("import time\ntime.sleep(1)"), await client.cell("1 + 1")];
    expect([first, second].map((result) => metaOf(result).stateKept)).toContain(false);
    expect(textOf(second)).toBe("2");
  });

  onEngines(["docker"], () => {
    test("a sandbox that somebody removes is told of, between cells and in a cell", async ({ client }) => {
      const remove = () => execFileSync("docker", ["rm", "--force", sandboxOf(client.workspace)]);
      await client.cell("1");
      remove();
      const between = await client.cell("1 + 1");
      // The engine says that it is gone before our connection to it has ended: the cell may have been sent by then.
      expect([
        "2\n[The sandbox ended before this cell; it ran in a new one; variables and imports are lost]",
        "[The kernel died (its sandbox ended); a new sandbox is made for the next cell; variables and imports are lost]",
      ]).toContain(textOf(between));
      const cell = await begin(client, SLEEPS);
      remove();
      expect(lastLine(textOf(await cell.answer))).toMatch(
        /^\[The kernel died \(its sandbox ended\); a new sandbox is made/,
      );
      expect(await client.text("1 + 1")).toBe("2");
    });
  });
});

function sandboxOf(workspace: string): string {
  const filter = ["--filter", `label=io.ipybox.workspace=${workspace}`, "--filter", "label=io.ipybox.role=session"];
  return execFileSync("docker", ["ps", "--quiet", ...filter], { encoding: "utf8" }).trim();
}

/** Sends a cell that makes the file `started`, and resolves when it has; `answer` is the cell's. Rejects if it ends before. */
async function begin(client: TestClient, code: string, options: CallOptions = {}) {
  const path = join(client.workspace, "started");
  rmSync(path, { force: true });
  const watcher = watch(client.workspace);
  try {
    const answer = client.cell(code, {}, options);
    const ended = answer.then((result) => Promise.reject(new Error(textOf(result))));
    const started = new Promise<void>((resolve) => watcher.on("change", () => existsSync(path) && resolve()));
    await Promise.race([started, ended]);
    return { answer };
  } finally {
    watcher.close();
  }
}
