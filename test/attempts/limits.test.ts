import { execFileSync } from "node:child_process";
import { freemem } from "node:os";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { textOf } from "../helpers/client.ts";
import { SessionUnderAttack, withoutWalls } from "./session-under-attack.ts";

let attacked: SessionUnderAttack;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({ args: ["--memory", "512m", "--pids", "128", "--tmp-size", "32m"] });
});
afterAll(() => attacked[Symbol.asyncDispose]());

/** The session works, and the host does: the next cell is answered. */
const works = async () => expect(await attacked.client.text("6 * 7")).toMatch(/^42/);

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
    const free = freemem();
    const result = await attacked.client.cell(`blocks = []
while True: blocks.append(bytearray(32 << 20))`);
    expect(textOf(result)).toContain("out of memory");
    expect(free - freemem()).toBeLessThan(1024 ** 3);
    await works();
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

  test("connects to the gateway's socket without end keeps nobody out", async () => {
    const code = `held = []
for _ in range(200):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].settimeout(2)
    try: held[-1].connect("/run/ipybox/gateway.sock")
    except OSError: break
[one.close() for one in held]
len(held)`;
    expect(await attacked.tries(code)).toMatch(/^succeeded/);
    await works();
  });

  test("writes 1 GB to the container's log leaves at most 1 MB of it", async () => {
    const result = await attacked.client.cell(`block = b"x" * (1 << 16) + b"\\n"
with open("/proc/1/fd/1", "wb", buffering=0) as log:
    for _ in range(1 << 14): log.write(block)`);
    // Not even that much: init is not dumpable, so its output can't be opened.
    expect(textOf(result)).toContain("PermissionError");
    const { LogPath } = await (await attacked.container()).inspect();
    const size = Number(execFileSync("stat", ["-c", "%s", LogPath], { encoding: "utf8" }));
    expect(size).toBeLessThan(1_100_000);
    expect(await withoutWalls(attacked.image, `os.write(os.open("/proc/1/fd/1", os.O_WRONLY), b"")`)).toBe(
      "succeeded: 0",
    );
    await works();
  });

  test("leaves no core file of a crash", async () => {
    const result = await attacked.client.cell(`import os, signal; os.kill(os.getpid(), signal.SIGSEGV)`);
    expect(textOf(result)).toContain("SIGSEGV");
    expect(await attacked.tries(`glob.glob("core*") + glob.glob("/tmp/core*")`)).toBe("succeeded: []");
  });
});
