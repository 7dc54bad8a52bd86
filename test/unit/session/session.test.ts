import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { IpyboxError } from "../../../src/common/errors.ts";
import { silentLogger } from "../../../src/common/logger.ts";
import { openSession } from "../../../src/session/open-session.ts";
import type { Session } from "../../../src/session/session.ts";
import { openWorkspace } from "../../../src/workspace/workspace.ts";
import { FakeEngine } from "../../fakes/fake-engine.ts";

let directory: string;
let session: Session;

describe("calls that come while the image is built", () => {
  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    directory = await mkdtemp(join(tmpdir(), "ipybox-session-"));
    session = await openSlowSession(directory);
    session.start();
  });
  afterEach(async () => {
    await session[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
    vi.useRealTimers();
  });

  test("each without a progress token is told to come again 45 s after its own arrival, whatever waits before it", async () => {
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

async function openSlowSession(root: string): Promise<Session> {
  const places = { home: join(root, "home"), stateDir: join(root, "state") };
  const workspace = await openWorkspace("workspace", {
    ...places,
    cwd: root,
    runDirs: [join(root, "run")],
    engineSocket: undefined,
  });
  return await openSession({
    ...places,
    engine: new FakeEngine({
      onPrepare: ({ signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(new Error("closed before it was built")));
        }),
    }),
    workspace,
    mounts: [],
    shields: undefined,
    owner: workspace,
    memoryLimitBytes: undefined,
    env: {},
    variables: () => Promise.resolve(new Map()),
    kernelEnvironment: () => Promise.resolve({}),
    upstreams: { expose: [], noRedact: [], allowWorkspaceUpstream: false, elicitor: () => undefined },
    packages: { indexUrl: undefined, extraIndexUrls: [], builds: false },
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
