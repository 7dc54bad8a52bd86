import { describe, expect, it } from "vitest";
import { defaultConfigFile, runtimeDirectory, stateDirectory } from "../../../src/config/directories.ts";

const LINUX = { platform: "linux", home: "/home/ann" } as const;
const MACOS = { platform: "darwin", home: "/Users/ann" } as const;
const WINDOWS = { platform: "win32", home: "C:\\Users\\ann" } as const;

describe("the state and the configuration", () => {
  it.each([
    [LINUX, {}, "/home/ann/.local/state/ipybox", "/home/ann/.config/ipybox/config.json"],
    [LINUX, { XDG_STATE_HOME: "/s", XDG_CONFIG_HOME: "/c" }, "/s/ipybox", "/c/ipybox/config.json"],
    [
      LINUX,
      { XDG_STATE_HOME: "", XDG_CONFIG_HOME: "", LOCALAPPDATA: "/no" },
      "/home/ann/.local/state/ipybox",
      "/home/ann/.config/ipybox/config.json",
    ],
    [MACOS, {}, "/Users/ann/.local/state/ipybox", "/Users/ann/.config/ipybox/config.json"],
    [
      WINDOWS,
      { LOCALAPPDATA: "C:\\Users\\ann\\AppData\\Local", APPDATA: "C:\\Users\\ann\\AppData\\Roaming" },
      "C:\\Users\\ann\\AppData\\Local\\ipybox",
      "C:\\Users\\ann\\AppData\\Roaming\\ipybox\\config.json",
    ],
    [WINDOWS, {}, "C:\\Users\\ann\\.local\\state\\ipybox", "C:\\Users\\ann\\.config\\ipybox\\config.json"],
  ])("%o with %o are in %s and %s", (host, env, state, config) => {
    expect(stateDirectory(env, host)).toBe(state);
    expect(defaultConfigFile(env, host)).toBe(config);
  });
});

it("sockets are in the user's runtime directory where there is one", () => {
  expect(runtimeDirectory({ XDG_RUNTIME_DIR: "/run/user/1000" })).toBe("/run/user/1000/ipybox");
  expect(runtimeDirectory({ XDG_RUNTIME_DIR: "" })).toBeUndefined();
  expect(runtimeDirectory({})).toBeUndefined();
});
