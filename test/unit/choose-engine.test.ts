import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, describe, expect, it } from "vitest";

import { engineWarnings } from "../../src/choose-engine.ts";
import { loadConfig } from "../../src/config/load.ts";

function warningsOf(flags: Record<string, unknown>): readonly string[] {
  const { config, problems } = loadConfig({ flags, env: { XDG_CONFIG_HOME: "/nowhere" } });
  if (config === undefined) throw new Error(problems.join());
  return engineWarnings(config, undefined);
}

const directory = mkdtempSync(join(tmpdir(), "test-warnings-"));
afterAll(() => rmSync(directory, { recursive: true }));
function settingsFile(settings: object): string {
  const path = join(directory, "settings.json");
  writeFileSync(path, JSON.stringify(settings));
  return path;
}

describe("what a start warns of", () => {
  it.each([
    ["docker", ["--sandbox-config"]],
    ["srt", ["--memory", "--pids", "--link"]],
    ["none", ["--memory", "--pids", "--link", "--sandbox-config", "--mask"]],
  ])("under --sandbox %s: %j have no effect", (sandbox, names) => {
    const settings = { memory: "1g", pids: "100", link: "exec", sandboxConfig: settingsFile({}), mask: ["x"] };
    expect(warningsOf({ sandbox, ...settings }).at(-1)).toBe(
      `Without effect under --sandbox ${sandbox}: ${names.join(", ")}`,
    );
  });

  it("nothing without effect where nothing is given, and that none is no wall", () => {
    expect(warningsOf({ sandbox: "docker" })).toEqual([]);
    expect(warningsOf({ sandbox: "srt" })).toEqual([]);
    expect(warningsOf({ sandbox: "none" })).toEqual([expect.stringContaining("without any wall")]);
  });

  it.runIf(process.platform === "linux")("what sandbox-runtime would let cells write is not there", () => {
    const sandboxConfig = settingsFile({ filesystem: { allowWrite: [".", "./out", directory, "/no/such", "~/x"] } });
    expect(warningsOf({ sandbox: "srt", sandboxConfig, workspace: directory })).toEqual([
      "--sandbox-config: allowWrite names what is not there, which cells can't make: ./out, /no/such",
    ]);
  });
});
