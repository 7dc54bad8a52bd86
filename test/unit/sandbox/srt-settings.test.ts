import { homedir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { View } from "../../../src/sandbox/local/confinement.ts";
import { parseSettings, settingsFor } from "../../../src/sandbox/local/srt-settings.ts";

const VIEW: View = {
  directory: "/run/s1.d",
  outside: "/run/s1",
  writable: ["/run/s1.d", "/project"],
  readOnly: ["/project/.git"],
  hidden: ["/project/.env", "/state"],
  visible: ["/state/environment"],
};

const settings = (document: object) => settingsFor(parseSettings(document), VIEW, "/project");

describe("settings of sandbox-runtime", () => {
  it("are by default: the workspace can be written, what is masked can't be read, there is no network", () => {
    expect(settings({})).toEqual({
      network: { allowedDomains: [], deniedDomains: [] },
      filesystem: {
        denyRead: ["/project/.env", "/state", join(homedir(), ".npm/_logs"), join(homedir(), ".claude/debug")],
        allowRead: ["/state/environment"],
        allowWrite: ["/run/s1.d", "/project"],
        denyWrite: ["/project/.git"],
      },
    });
  });

  it("hide and protect more when the user says so, with paths from the workspace on", () => {
    const { filesystem } = settings({
      filesystem: { denyRead: ["~/.ssh", "secrets", "/srv"], allowRead: ["/srv/open"], denyWrite: ["../beside"] },
    });
    expect(filesystem.denyRead).toEqual(
      expect.arrayContaining(["~/.ssh", "/project/secrets", "/srv", "/project/.env"]),
    );
    expect(filesystem.allowRead).toEqual(["/srv/open", "/state/environment"]);
    expect(filesystem.denyWrite).toEqual(["/beside", "/project/.git"]);
  });

  it("can take the workspace's writability away, but not that of the sandbox's own directory", () => {
    expect(settings({ filesystem: { allowWrite: ["out"] } }).filesystem.allowWrite).toEqual([
      "/project/out",
      "/run/s1.d",
    ]);
    expect(settings({ filesystem: { allowWrite: [] } }).filesystem.allowWrite).toEqual(["/run/s1.d"]);
  });

  it("open no network, whatever domains are allowed: those are reached by a proxy of ours", () => {
    expect(settings({ network: { allowedDomains: ["example.org"] } }).network.allowedDomains).toEqual([]);
  });

  it("are passed on where we decide nothing", () => {
    expect(settings({ ripgrep: { command: "rg" }, network: { httpProxyPort: 1 } })).toMatchObject({
      ripgrep: { command: "rg" },
      network: { httpProxyPort: 1 },
    });
  });

  it.for([
    [{ network: { allowAllUnixSockets: true } }, /would open the sockets of engines/],
    [{ network: { deniedDomains: ["example.org"] } }, /is not supported/],
    [{ filesystem: { denyRead: "/srv" } }, /array/],
    [{ network: [] }, /object/],
    ["everything", /object/],
    [null, /object/],
  ] as const)("are refused: %j", ([document, reason]) => {
    expect(() => parseSettings(document)).toThrow(reason);
  });
});
