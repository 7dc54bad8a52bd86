import { describe, expect, it } from "vitest";

import { engineWarnings } from "../../src/choose-engine.ts";
import { loadConfig } from "../../src/config/load.ts";

function warningsOf(flags: Record<string, unknown>): readonly string[] {
  const { config, problems } = loadConfig({ flags, env: { XDG_CONFIG_HOME: "/nowhere" } });
  if (config === undefined) throw new Error(problems.join());
  return engineWarnings(config, undefined);
}

describe("what a start warns of", () => {
  it.each([
    ["docker", ["--sandbox-config"]],
    ["srt", ["--memory", "--pids", "--link"]],
    ["none", ["--memory", "--pids", "--link", "--sandbox-config", "--mask"]],
  ])("under --sandbox %s: %j have no effect", (sandbox, names) => {
    const settings = { memory: "1g", pids: "100", link: "exec", sandboxConfig: import.meta.filename, mask: ["x"] };
    expect(warningsOf({ sandbox, ...settings }).at(-1)).toBe(
      `Without effect under --sandbox ${sandbox}: ${names.join(", ")}`,
    );
  });

  it("nothing without effect where nothing is given, and that none is no wall", () => {
    expect(warningsOf({ sandbox: "docker" })).toEqual([]);
    expect(warningsOf({ sandbox: "srt" })).toEqual([]);
    expect(warningsOf({ sandbox: "none" })).toEqual([expect.stringContaining("without any wall")]);
  });
});
