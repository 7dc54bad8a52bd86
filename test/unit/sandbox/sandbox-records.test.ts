import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { currentProcess, identityOf } from "../../../src/common/process-identity.ts";
import { removeOrphans } from "../../../src/sandbox/local/inventory.ts";
import { type SandboxRecord, SandboxRecords } from "../../../src/sandbox/local/sandbox-records.ts";

let stateDir: string;
let records: SandboxRecords;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "test-records-"));
  records = new SandboxRecords(stateDir);
});
afterEach(() => rmSync(stateDir, { recursive: true }));

const DEAD = { ...currentProcess(), startTime: "1" };

function recordOf(id: string, overrides: Partial<SandboxRecord> = {}): SandboxRecord {
  const directory = join(stateDir, `${id}.d`);
  mkdirSync(directory);
  return {
    ...{ id, engine: "none", session: "s", role: "session", workspace: "/w", environment: "/e", directory },
    ...{ startedAt: 1, owner: currentProcess(), init: DEAD, ...overrides },
  };
}

describe("records of sandboxes", () => {
  it("are found again by another process, oldest first, and are gone when disposed", async () => {
    const second = recordOf("b", { startedAt: 2 });
    const first = recordOf("a");
    await records.add(second);
    const added = await records.add(first);
    expect(await new SandboxRecords(stateDir).list()).toEqual([first, second]);
    await added[Symbol.asyncDispose]();
    expect(await records.list()).toEqual([second]);
  });

  it("can be read by this user alone", async () => {
    await records.add(recordOf("a"));
    expect(statSync(join(stateDir, "sandboxes")).mode & 0o777).toBe(0o700);
    expect(statSync(join(stateDir, "sandboxes/a.json")).mode & 0o777).toBe(0o600);
  });

  it("are none before there were any, and those that can't be read don't count", async () => {
    expect(await records.list()).toEqual([]);
    await records.add(recordOf("a"));
    const document = { ...recordOf("b"), owner: "nobody", init: "nobody" };
    for (const [name, text] of Object.entries({ "half.json": '{"id":', "b.json": JSON.stringify(document), x: "{}" }))
      writeFileSync(join(stateDir, "sandboxes", name), text);
    expect((await records.list()).map(({ id }) => id)).toEqual(["a"]);
  });
});

describe("what is left of sandboxes whose owner is dead", () => {
  it("is ended and removed; others are spared", async () => {
    const left = spawn("sleep", ["600"]);
    const spared = spawn("sleep", ["600"]);
    const [leftEnded, sparedEnded] = [once(left, "exit"), once(spared, "exit")];
    const orphan = recordOf("orphan", { owner: DEAD, init: identityOf(left.pid ?? 0) });
    const kept = recordOf("kept", { init: identityOf(spared.pid ?? 0) });
    const foreign = recordOf("foreign", { owner: { ...DEAD, machine: "another" } });
    for (const record of [orphan, kept, foreign]) await records.add(record);

    expect(await removeOrphans(records)).toEqual(["orphan"]);
    expect(await leftEnded).toEqual([null, "SIGKILL"]);
    expect(existsSync(orphan.directory)).toBe(false);
    expect(readdirSync(join(stateDir, "sandboxes")).sort()).toEqual(["foreign.json", "kept.json"]);
    expect(existsSync(kept.directory)).toBe(true);
    spared.kill();
    expect(await sparedEnded).toEqual([null, "SIGTERM"]);
  });

  it("is no process that has its number by now", async () => {
    await records.add(recordOf("orphan", { owner: DEAD, init: { ...currentProcess(), startTime: "1" } }));
    expect(await removeOrphans(records)).toEqual(["orphan"]); // and this process is still there
  });
});
