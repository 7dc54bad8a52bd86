import { createHash } from "node:crypto";
import { readdirSync, statfsSync } from "node:fs";

import type Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";

import { errorCodeOf, TestClient, TestDirectory, textOf } from "../helpers/client.ts";
import { docker, SessionUnderAttack, SmallDisk, withoutWalls } from "./session-under-attack.ts";

let attacked: SessionUnderAttack;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({
    args: ["--memory", "512m", "--cpus", "0.8", "--pids", "128", "--tmp-size", "32m"],
  });
});
afterAll(() => attacked[Symbol.asyncDispose]());

/** The session works, and the host does: the next cell is answered. */
const works = async () => expect(await attacked.client.text("6 * 7")).toMatch(/^42/);

/** All that the engine keeps of a container's output. */
const logOf = async (container: Docker.Container): Promise<Buffer> => {
  return Buffer.from(await container.logs({ follow: false, stdout: true, stderr: true }));
};

describe("limits: a cell that", () => {
  test("starts processes without end meets the limit, and the session goes on", async () => {
    const code = `children = []
try:
    while len(children) < 500:
        children.append(subprocess.Popen(["sleep", "60"]))
finally:
    for child in children: child.kill()
    for child in children: child.wait()
len(children)`;
    expect(await attacked.tries(code)).toMatch(/^refused: BlockingIOError/);
    expect(await withoutWalls(attacked.image, code)).toBe("succeeded: 500");
    await works();
  });

  test("starts threads without end meets the limit", async () => {
    const code = `import threading
stop = threading.Event()
try:
    for _ in range(500): threading.Thread(target=stop.wait).start()
finally:
    stop.set()`;
    expect(await attacked.tries(code)).toMatch(/^refused: RuntimeError: can't start new thread/);
    expect(await withoutWalls(attacked.image, code)).toBe("succeeded: None");
    await works();
  });

  test("is a fork bomb is stopped with its whole tree", async () => {
    const result = await attacked.client.cell(
      `import os
while True:
    try: os.fork()
    except OSError: pass`,
      { timeout: 3 },
    );
    expect(result.isError).toBe(true);
    await works();
    const { Processes } = (await (await attacked.container()).top()) as { Processes: unknown[] };
    expect(Processes.length).toBeLessThan(20);
  });

  test("takes all memory dies alone, with the reason", async () => {
    const result = await attacked.client.cell(`blocks = []
while True: blocks.append(bytearray(32 << 20))`);
    expect(textOf(result)).toContain("out of memory");
    await works();
    const more = `len(b"x" * (640 << 20))`;
    expect(textOf(await attacked.client.cell(more))).toContain("out of memory");
    expect(await withoutWalls(attacked.image, more)).toBe(`succeeded: ${640 * 2 ** 20}`);
  });

  test("computes on many processes at once gets no more than its share of the processors", async () => {
    const code = `import resource
spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
before, started = spent(), time.monotonic()
children = [subprocess.Popen(["timeout", "2", sys.executable, "-S", "-c", "while True: pass"]) for _ in range(4)]
[child.wait() for child in children]
(spent() - before) / (time.monotonic() - started) < 1`;
    expect(await attacked.tries(code)).toBe("succeeded: True");
  });

  test("and is held back for it, as nobody is without a limit", async () => {
    const code = `def throttled():
    lines = [line.split() for path in glob.glob("/sys/fs/cgroup/cpu.stat") + glob.glob("/sys/fs/cgroup/cpu/cpu.stat") for line in open(path)]
    return next(int(value) for name, value in lines if name == "nr_throttled")
before = throttled()
children = [subprocess.Popen(["timeout", "2", sys.executable, "-S", "-c", "while True: pass"]) for _ in range(4)]
[child.wait() for child in children]
throttled() > before`;
    // A tenth of a processor: what a cell has here is more than a busy machine may give it.
    expect(await withoutWalls(attacked.image, code, { NanoCpus: 0.1e9 })).toBe("succeeded: True");
    expect(await withoutWalls(attacked.image, code)).toBe("succeeded: False");
  });

  test("fills /tmp, its home or the kernels' directory finds it full", async () => {
    for (const place of ["/tmp", "/home/ipybox", "/run/ipybox-kernels"]) {
      const code = `path = "${place}/big"
try:
    with open(path, "wb") as file:
        for _ in range(200): file.write(bytes(1 << 20))
finally:
    os.unlink(path)`;
      expect(await attacked.tries(code)).toMatch(/^refused: OSError: \[Errno 28\]/);
      if (place === "/tmp") expect(await withoutWalls(attacked.image, code)).toBe("succeeded: None");
    }
    await works();
  });

  test("fills shared memory finds it full", async () => {
    const code = `path = "/dev/shm/big"
try:
    with open(path, "wb") as file:
        for _ in range(200): file.write(bytes(1 << 20))
finally:
    os.unlink(path)`;
    expect(await attacked.tries(code)).toMatch(/^refused: OSError: \[Errno 28\]/);
  });

  test("opens files and sockets without end runs out of them alone", async () => {
    for (const opened of [`open("/dev/null")`, `socket.socket()`]) {
      const code = `held = []
try:
    while len(held) < 50_000: held.append(${opened})
finally:
    [one.close() for one in held]`;
      expect(await attacked.tries(code)).toMatch(/^refused: OSError: \[Errno 24\]/);
    }
    await works();
  });

  test("holds connections to the host's sockets without end takes a bounded share, and keeps nobody out", async () => {
    const code = `held = []
for name in ("gateway", "tools"):
    for _ in range(500):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].settimeout(2)
        try: held[-1].connect(f"/run/ipybox/{name}.sock")
        except OSError: break
import builtins
builtins.held = held  # beyond this cell
len(held)`;
    expect(await attacked.tries(code)).toMatch(/^succeeded/);
    await works();
    expect(readdirSync(`/proc/${attacked.client.transport.pid ?? 0}/fd`).length).toBeLessThan(700);
    await attacked.client.call("reset");
    await works();
  });

  test("writes 1 GB to whatever leads to the container's log leaves at most 1 MB of it", async () => {
    const result = await attacked.tries(
      `def flood(path):
    block = b"x" * (1 << 16) + b"\\n"
    with open(path, "wb", buffering=0) as log:
        for _ in range(1 << 14): log.write(block)
failures = []
for pid in (1, pid_of("gateway"), pid_of("fork_server"), os.getppid()):
    for descriptor in (1, 2):
        try: flood(f"/proc/{pid}/fd/{descriptor}")
        except OSError as error: failures.append(type(error).__name__)
failures`,
      120,
    );
    // Not even that much: none of them is dumpable, so their output can't be opened.
    expect(result).toBe(`succeeded: [${Array.from({ length: 8 }, () => "'PermissionError'").join(", ")}]`);
    expect((await logOf(await attacked.container())).length).toBeLessThan(1_100_000);
    await works();
  });

  test("and so would what reached the log, which is endless where it has no limit", async () => {
    const { HostConfig } = await (await attacked.container()).inspect();
    const sizeWith = async (LogConfig?: Docker.HostConfig["LogConfig"]) => {
      const container = await docker.createContainer({
        Image: attacked.image,
        Entrypoint: ["sh", "-c", "head -c 2097152 /dev/zero | tr '\\0' x | fold -w 1000"],
        HostConfig: { NetworkMode: "none", ...(LogConfig && { LogConfig }) },
      });
      try {
        await container.start();
        await container.wait();
        return (await logOf(container)).length;
      } finally {
        await container.remove({ force: true });
      }
    };
    expect(await sizeWith(HostConfig.LogConfig)).toBeLessThan(1_500_000);
    expect(await sizeWith()).toBeGreaterThan(2_097_152);
  });

  test("leaves no core file of a crash", async () => {
    const result = await attacked.client.cell(`import os, signal; os.kill(os.getpid(), signal.SIGSEGV)`);
    expect(textOf(result)).toContain("SIGSEGV");
    expect(await attacked.tries(`glob.glob("core*") + glob.glob("/tmp/core*")`)).toBe("succeeded: []");
  });
});

describe("the server outlives a cell that", () => {
  test.for([
    [
      "shows a display of 1 MB six hundred times over, more than a string can hold",
      `from IPython.display import display, update_display
for _ in range(600): display("", display_id="shown")
update_display("x" * 10**6, display_id="shown")`,
    ],
    [
      "shows JSON that is nested deeper than can be written",
      `kernel = get_ipython().kernel
message = kernel.session.msg("display_data", {"data": {"application/json": "DEEP"}, "metadata": {}}, parent=kernel.get_parent())
parts = kernel.session.serialize(message)
kernel.iopub_thread.send_multipart([part.replace(b'"DEEP"', b"[" * 100_000 + b"]" * 100_000) for part in parts])`,
    ],
    ["asks for a package by a text that has countless readings", `%pip install 'a; ${"b".repeat(80)}!'`],
  ] as const)("%s", async ([, code]) => {
    await attacked.client.cell(code);
    await works();
  });
});

describe("the host's disk: what would fill it is stopped in time", () => {
  const SIZE_MB = 1150;

  test.runIf(process.getuid?.() === 0)("a cell, through the workspace; another file system needs root", async () => {
    using disk = new SmallDisk(SIZE_MB);
    using directory = new TestDirectory();
    await using client = await TestClient.connect({ bin: inject("ipyboxBin"), directory, workspace: disk.path });
    const bomb = await client.cell(`kept = 1
with open("big", "wb") as file:
    while True: file.write(bytes(1 << 22)); file.flush()`);
    expect(textOf(bomb)).toMatch(
      /\[Less than 1 GB of disk space is free: the cell was interrupted; variables are kept\]$/,
    );
    expect(statfsSync(disk.path).bavail).toBeGreaterThan(0);
    // What was full before is not the next cell's doing: it may write a little, and tidy up.
    expect(await client.text(`_ = open("small", "wb").write(bytes(1 << 20)); kept`)).toBe("1");
  });

  // What builds is watched on the disk of its scratch likewise: images/kernel/tests/test_init.py.
  test.for([
    ["a wheel, by what it unpacks to", "./bomb-1-py3-none-any.whl"],
    ["a build, by what it leaves to be taken over", "./bomb"],
  ] as const)("%s", async ([, requirement]) => {
    await using session = await SessionUnderAttack.open({ prepare: makeSmallVolume });
    await session.client.text(MAKE_BOMBS);
    const result = await session.client.call("install_package", { package_name: requirement });
    expect(errorCodeOf(result)).toBe("disk-full");
    expect(textOf(result)).toContain("nothing was changed");
    expect(await session.tries(`os.listdir("/opt/ipybox/packages")`)).toBe("succeeded: []");
  });

  /** A package volume of the workspace's name, on a file system of its own. */
  function makeSmallVolume(workspace: string): Promise<unknown> {
    const key = createHash("sha256").update(workspace).digest("hex").slice(0, 16);
    const owner = process.getuid?.() === 0 ? 1000 : process.getuid?.();
    return docker.createVolume({
      Name: `ipybox-packages-${key}`,
      DriverOpts: { type: "tmpfs", device: "tmpfs", o: `size=${SIZE_MB}m,uid=${owner},gid=${owner},mode=755` },
      Labels: { "io.ipybox.workspace": workspace },
    });
  }
});

/** A wheel of 2 GB of nothing, and a source tree whose build leaves as much in the place that is taken over. */
const MAKE_BOMBS = String.raw`
import os, zipfile
INFO = {
    "METADATA": "Metadata-Version: 2.1\nName: bomb\nVersion: 1\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "bomb.py,,\n",
}
with zipfile.ZipFile("bomb-1-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
    for name, content in INFO.items(): wheel.writestr(f"bomb-1.dist-info/{name}", content)
    with wheel.open("bomb.py", "w", force_zip64=True) as big:
        for _ in range(512): big.write(bytes(1 << 22))
os.makedirs("bomb", exist_ok=True)
open("bomb/pyproject.toml", "w").write('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "bomb"\nversion = "1"\n')
open("bomb/backend.py", "w").write(f"INFO = {INFO!r}" + '''
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    with open("/opt/ipybox/scratch/build/view/big", "wb") as file:
        file.truncate(1 << 40)  # a hole, which takes nothing there
    with zipfile.ZipFile(os.path.join(directory, "bomb-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("bomb.py", "")
        for name, content in INFO.items(): wheel.writestr("bomb-1.dist-info/" + name, content)
    return "bomb-1-py3-none-any.whl"
''')
`;
