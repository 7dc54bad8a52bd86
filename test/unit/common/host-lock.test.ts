import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { currentProcess, formatIdentity, identityOf } from "../../../src/common/process-identity.ts";
import { withHostLock } from "../../../src/common/host-lock.ts";

describe("a lock of this host", () => {
  let directory: string;
  let path: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "ipybox-lock-"));
    path = join(directory, "install");
  });
  afterEach(() => rm(directory, { recursive: true }));

  const neverRun = () => expect.unreachable("somebody else holds the lock");
  const neverWaiting = () => expect.unreachable("nobody else holds the lock");

  /** What a server leaves that was killed in an install. */
  const leaveLockOf = async (owner: string) => {
    await mkdir(join(directory, "install.lock"));
    await writeFile(join(directory, "install.owner"), owner);
  };

  it("is taken from a server that was killed, at once", async () => {
    const server = spawn("sleep", ["1000"]);
    await once(server, "spawn");
    const identity = formatIdentity(identityOf(server.pid ?? 0));
    server.kill("SIGKILL");
    await once(server, "exit");
    await leaveLockOf(identity);
    expect(await withHostLock(path, { onWaiting: neverWaiting }, (lost) => Promise.resolve(lost.aborted))).toBe(false);
    expect(await readdir(directory)).toEqual([]);
  });

  it.for([
    ["a living one", (): string => formatIdentity(currentProcess())],
    [
      "one of another machine, which may live",
      (): string => formatIdentity({ ...currentProcess(), machine: "other", pid: 1 }),
    ],
    ["nobody who is known", (): string => ""],
  ] as const)("is waited for where it is that of %s", async ([, owner]) => {
    await leaveLockOf(owner());
    const cancel = new AbortController();
    const waiting = withHostLock(path, { signal: cancel.signal, onWaiting: () => cancel.abort() }, neverRun);
    await expect(waiting).rejects.toThrow();
    expect(await readdir(directory)).toEqual(["install.lock", "install.owner"]);
  });

  it("is one server's at a time, of many that find that of a dead one", async () => {
    await leaveLockOf(formatIdentity({ ...currentProcess(), startTime: "1" }));
    let holding = 0;
    const inTurn = () =>
      withHostLock(path, {}, async (lost) => {
        expect(++holding).toBe(1);
        await new Promise(setImmediate);
        holding -= 1;
        return lost.aborted;
      });
    expect(await Promise.all(Array.from({ length: 8 }, inTurn))).toEqual(Array(8).fill(false));
  });

  it("says what to do where the state directory can't be written", async () => {
    await writeFile(join(directory, "file"), "");
    await expect(withHostLock(join(directory, "file/locks/install"), {}, neverRun)).rejects.toMatchObject({
      code: "state-unusable",
      message: "ipybox's state directory can't be written: a part of the path is no directory",
      hint: expect.stringContaining("Set XDG_STATE_HOME") as string,
    });
  });
});
