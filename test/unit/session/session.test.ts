import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { IpyboxError } from "../../../src/common/errors.ts";
import { silentLogger } from "../../../src/common/logger.ts";
import { openSession } from "../../../src/session/open-session.ts";
import type { Session } from "../../../src/session/session.ts";
import type { ShieldOptions } from "../../../src/workspace/shield-rules.ts";
import { openWorkspace } from "../../../src/workspace/workspace.ts";
import { FakeEngine, type FakeEngineOptions } from "../../fakes/fake-engine.ts";
import { line, ScriptedGateway } from "../../fakes/scripted-gateway.ts";

let directory: string;
let session: Session;
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  directory = await mkdtemp(join(tmpdir(), "ipybox-session-"));
});
afterEach(async () => {
  await session[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
  vi.useRealTimers();
});

describe("calls that come while the image is built", () => {
  test("each without a progress token is told to come again 45 s after its own arrival, whatever waits before it", async () => {
    const onPrepare: FakeEngineOptions["onPrepare"] = ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(new Error("closed before it was built")));
      });
    session = await openSessionOn(new FakeEngine({ onPrepare }), directory);
    session.start();
    const answered: string[] = [];
    const cell = (name: string, patient: boolean) =>
      session
        .executeCell("1", cellOptions(patient))
        .catch((error: unknown) => answered.push(`${name} ${codeOf(error)}`));
    void cell("patient", true);
    void cell("first", false);
    await vi.advanceTimersByTimeAsync(5_000);
    void cell("second", false);
    const reset = session.reset(cellOptions(false)).catch((error: unknown) => answered.push(`reset ${codeOf(error)}`));
    await vi.advanceTimersByTimeAsync(40_100);
    expect(answered).toEqual(["first image-building"]);
    await vi.advanceTimersByTimeAsync(5_000);
    await reset;
    expect(answered).toEqual(["first image-building", "second image-building", "reset image-building"]);
  });
});

test("a cell whose sandbox goes without a word of the engine is answered within 2 s, and the next runs in another", async () => {
  await using gateway = new ScriptedGateway();
  gateway.transcripts.push([line.busy, line.out("before"), { cut: true }], [line.out("after"), line.reply, line.idle]);
  const engine = new FakeEngine({ onGatewayStream: (stream) => gateway.accept(stream) });
  session = await openSessionOn(engine, directory);
  let shown = "";
  const cell = { ...cellOptions(true), timeoutMs: 60_000, onText: (text: string) => void (shown += text) };
  const dying = session.executeCell("1", cell);
  await vi.waitFor(() => expect(shown).toBe("before"));
  await vi.advanceTimersByTimeAsync(1_900);
  expect(await dying).toMatchObject({ status: "died", text: "before", stateKept: false });
  expect(await session.executeCell("2", cell)).toMatchObject({ status: "ok", text: "after", stateKept: true });
  expect(engine.sandboxes.length).toBe(2);
});

test("a mask that falls while a sandbox is made has another made, which has masks over what is there by then", async () => {
  await using gateway = new ScriptedGateway();
  const masked: string[][] = [];
  const engine = new FakeEngine({
    onGatewayStream: (stream) => gateway.accept(stream),
    onLaunch: async ({ workspace }) => {
      masked.push(workspace.masked.map((path) => basename(path)));
      if (masked.length === 1) await writeFile(join(workspace.path, ".env.local"), "SECRET=1");
    },
  });
  session = await openSessionOn(engine, directory, { mask: [], protect: [], unprotect: [] });
  session.start();
  await vi.waitFor(() => expect(masked).toEqual([[".env"], [".env", ".env.local"]]), { timeout: 10_000 });
});

async function openSessionOn(engine: FakeEngine, root: string, shields?: ShieldOptions): Promise<Session> {
  const places = { home: join(root, "home"), stateDir: join(root, "state") };
  const workspace = await openWorkspace("workspace", {
    ...places,
    cwd: root,
    runDirs: [join(root, "run")],
    engineSocket: undefined,
  });
  return await openSession({
    ...places,
    engine,
    workspace,
    mounts: [],
    shields,
    owner: workspace,
    memoryLimitBytes: undefined,
    env: {},
    variables: () => Promise.resolve(new Map()),
    kernelEnvironment: () => Promise.resolve({}),
    upstreams: { expose: [], noRedact: [], allowWorkspaceUpstream: false, elicitor: () => undefined },
    packages: { indexUrl: undefined, extraIndexUrls: [], builds: false, innerPath: undefined },
    egress: { allowDomain: [], allowPrivate: [] },
    version: "0",
    logger: silentLogger,
  });
}

function cellOptions(patient: boolean) {
  const ignore = () => undefined;
  const { signal } = new AbortController();
  return {
    timeoutMs: 1_000,
    maxOutputChars: 100,
    signal,
    patient,
    onStep: ignore,
    onText: ignore,
    onToolProgress: ignore,
  };
}

function codeOf(error: unknown): string {
  return error instanceof IpyboxError ? error.code : String(error);
}
