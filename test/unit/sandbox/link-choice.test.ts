import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silentLogger } from "../../../src/common/logger.ts";
import type { Link } from "../../../src/sandbox/link/link.ts";
import { EngineNote } from "../../../src/sandbox/docker/engine-note.ts";
import { LinkChoice, LinkFailure, type LinkName } from "../../../src/sandbox/docker/link-choice.ts";

let stateDir: string;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), "test-links-"));
});
afterEach(() => rm(stateDir, { recursive: true }));

const link = (name: LinkName): Link => ({ name, open: () => Promise.reject(new Error("not opened here")) });
const PLACE = { runDirectory: "/none", owner: { uid: 0, gid: 0 }, logger: silentLogger };
const SERVICES = { gateway: () => undefined, tools: () => undefined };
const choose = (setting: LinkName | "auto", key = "unix:///engine") => {
  const note = new EngineNote({ stateDir, kind: "links", key, logger: silentLogger });
  return new LinkChoice({ setting, links: [link("socket"), link("exec")], note, logger: silentLogger });
};

/** Starts over one of the links that work, and tells which were tried. */
async function startOver(choice: LinkChoice, ...working: LinkName[]): Promise<LinkName[]> {
  const tried: LinkName[] = [];
  await choice.start(({ name }) => {
    tried.push(name);
    return working.includes(name) ? Promise.resolve() : Promise.reject(new LinkFailure(new Error(`no ${name}`)));
  });
  return tried;
}

describe("which link a sandbox gets", () => {
  it("is the first that works", async () => {
    expect(await startOver(choose("auto"), "socket", "exec")).toEqual(["socket"]);
    expect(await startOver(choose("auto", "tcp://other"), "exec")).toEqual(["socket", "exec"]);
  });

  it("is remembered for an engine, by later processes too", async () => {
    await startOver(choose("auto"), "exec");
    expect(await startOver(choose("auto"), "exec")).toEqual(["exec"]);
    expect(await startOver(choose("auto", "tcp://other"), "socket")).toEqual(["socket"]);
  });

  it("is tried anew when what is remembered fails", async () => {
    await startOver(choose("auto"), "exec");
    expect(await startOver(choose("auto"), "socket")).toEqual(["exec", "socket"]);
    expect(await startOver(choose("auto"), "socket", "exec")).toEqual(["socket"]);
  });

  it("is the one that is asked for, and nothing is remembered of it", async () => {
    expect(await startOver(choose("exec"), "socket", "exec")).toEqual(["exec"]);
    await expect(startOver(choose("socket"), "exec")).rejects.toThrow("no socket");
    expect(await readdir(stateDir)).toEqual([]);
  });

  it("is none when none works: the first failure is told", async () => {
    await expect(startOver(choose("auto"))).rejects.toThrow("no socket");
    expect(await readdir(stateDir)).toEqual([]);
  });

  it("is another one where the first can't even be opened on this host", async () => {
    const tried: LinkName[] = [];
    await choose("auto").start(async (given) => {
      tried.push(given.name);
      if (given.name === "socket") await given.open(PLACE, SERVICES);
    });
    expect(tried).toEqual(["socket", "exec"]);
  });

  it("is not looked for any further when something else fails", async () => {
    const tried: LinkName[] = [];
    const starting = choose("auto").start(({ name }) => {
      tried.push(name);
      return Promise.reject(new Error("no image"));
    });
    await expect(starting).rejects.toThrow("no image");
    expect(tried).toEqual(["socket"]);
  });

  it("is looked for when what is remembered is no link", async () => {
    await startOver(choose("auto"), "exec");
    const [file = ""] = await readdir(join(stateDir, "links"));
    expect(await readFile(join(stateDir, "links", file), "utf8")).toBe("exec\n");
    await writeFile(join(stateDir, "links", file), "carrier pigeon");
    expect(await startOver(choose("auto"), "exec")).toEqual(["socket", "exec"]);
  });
});
