import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { removeRunDirectory, RunRoot } from "../../../src/sandbox/link/run-directory.ts";
import { listenOn } from "../../../src/sandbox/link/socket.ts";

const isRoot = process.getuid?.() === 0;
const owner = isRoot ? { uid: 1234, gid: 1235 } : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

let scratch = "";
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "test-run-"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(scratch, { recursive: true, force: true });
});

describe("a socket for a sandbox", () => {
  it("belongs to the user inside alone", async () => {
    const socket = await listenOn({
      directory: scratch,
      name: "gateway.sock",
      ...owner,
      onConnection: () => undefined,
    });
    const found = await stat(join(scratch, "gateway.sock"));
    expect([found.uid, found.gid, found.mode & 0o777]).toEqual([owner.uid, owner.gid, 0o600]);
    await socket[Symbol.asyncDispose]();
  });

  it("is gone after disposal, and so are its connections", async () => {
    const socket = await listenOn({
      directory: scratch,
      name: "tools.sock",
      ...owner,
      onConnection: (stream) => stream.write("hello"),
    });
    const client = connect(join(scratch, "tools.sock"));
    await once(client, "data");
    const closed = once(client, "close");
    await socket[Symbol.asyncDispose]();
    await closed;
    expect(existsSync(join(scratch, "tools.sock"))).toBe(false);
  });

  it("is refused where its path would be cut", async () => {
    const directory = join(scratch, "x".repeat(100));
    await mkdir(directory);
    const listening = listenOn({ directory, name: "tools.sock", ...owner, onConnection: () => undefined });
    await expect(listening).rejects.toThrow("too long");
  });
});

describe("run directories", () => {
  it("can be passed through, but not listed, by the user inside", async () => {
    await using root = new RunRoot(scratch);
    const path = await root.make("s1", owner);
    const found = await stat(path);
    expect(found.mode & 0o777).toBe(isRoot ? 0o710 : 0o700);
    expect(found.uid).toBe(process.getuid?.());
    await removeRunDirectory(path);
    expect(existsSync(path)).toBe(false);
  });

  it("are all removed with their root", async () => {
    const root = new RunRoot(scratch);
    await Promise.all([root.make("s1", owner), root.make("s2", owner)]);
    expect(await readdir(scratch)).toHaveLength(1);
    await root[Symbol.asyncDispose]();
    await root[Symbol.asyncDispose]();
    expect(await readdir(scratch)).toEqual([]);
  });

  it.each([
    ["as long as one may be", 44],
    ["longer", 45],
    ["far too long for sockets", 200],
  ])("keeps paths of sockets under 100 bytes where XDG_RUNTIME_DIR is %s", async (_what, bytes) => {
    const runtime = join(scratch, "x".repeat(200)).slice(0, bytes - "/ipybox".length);
    vi.stubEnv("XDG_RUNTIME_DIR", runtime);
    await using root = new RunRoot(undefined);
    const directory = await root.make("0123456789abcdef-01234567", owner); // a task's; no sandbox has a longer name
    const path = join(directory, "gateway.sock");
    expect(Buffer.byteLength(path)).toBeLessThan(100);
    expect(path.startsWith(scratch)).toBe(bytes === 44);
    const socket = await listenOn({ directory, name: "gateway.sock", ...owner, onConnection: () => undefined });
    await socket[Symbol.asyncDispose]();
  });
});
