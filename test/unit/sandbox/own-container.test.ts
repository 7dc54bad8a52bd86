import { describe, expect, test } from "vitest";

import { containerIdIn, enginePath, type OwnMount, toEngineMount } from "../../../src/sandbox/docker/own-container.ts";

const ID = "0123456789abcdef".repeat(4);

describe("the container that we run in", () => {
  test.for([
    [
      "Docker",
      `2010 1998 254:0 /var/lib/docker/containers/${ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw`,
    ],
    [
      "Docker with another root and host networking",
      `912 900 0:54 /data/containers/${ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw`,
    ],
    [
      "Podman",
      `77 60 0:24 /containers/overlay-containers/${ID}/userdata/hosts /etc/hosts rw,nosuid - tmpfs tmpfs rw,size=1k`,
    ],
  ])("is known by its mounts under %s", ([, line]) => {
    expect(containerIdIn(`21 1 0:20 / /proc rw - proc proc rw\n${line ?? ""}\n`)).toBe(ID);
  });

  test.for([
    ["a plain host", "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"],
    ["an engine's host", `98 21 0:51 / /var/lib/docker/containers/${ID}/mounts/shm rw,nosuid - tmpfs shm rw\n`],
    ["a directory with such a name", `98 21 254:0 /containers/${ID}/hostname /mnt/hostname rw - ext4 /dev/vda rw\n`],
    ["nothing", ""],
  ])("is none on %s", ([, text]) => {
    expect(containerIdIn(text ?? "")).toBeUndefined();
  });
});

const OWN: readonly OwnMount[] = [
  { Type: "bind", Source: "/home/me/project", Destination: "/app/workspace", RW: true },
  { Type: "bind", Source: "/dev/null", Destination: "/app/workspace/.env", RW: true },
  { Type: "volume", Source: "/var/lib/docker/volumes/deps/_data", Destination: "/app/workspace/deps", RW: false },
  { Type: "tmpfs", Source: "", Destination: "/app/workspace/cache", RW: true },
  { Type: "volume", Source: "", Destination: "/remote", RW: true },
];

describe("a path of this container, for the engine", () => {
  test.for([
    ["/app/workspace", "/home/me/project"],
    ["/app/workspace/src/a b", "/home/me/project/src/a b"],
    ["/app/workspace/.env", "/dev/null"],
    ["/app/workspace/.env.local", "/home/me/project/.env.local"],
    ["/app/workspace/deps/x", "/var/lib/docker/volumes/deps/_data/x"],
    ["/app/workspace/cache/x", undefined],
    ["/app/workspaces", undefined],
    ["/app", undefined],
    ["/tmp/x", undefined],
    ["/remote/x", undefined],
  ])("%s is %s", ([path, expected]) => {
    expect(enginePath(path ?? "", OWN)?.path).toBe(expected);
  });

  test("is below the root of a container whose root is mounted", () => {
    const root = [{ Type: "bind", Source: "/", Destination: "/", RW: true } as const];
    expect(enginePath("/tmp/x", root)?.path).toBe("/tmp/x");
  });

  test("is read-only in sandboxes where it is read-only here", () => {
    const bind = (Source: string, ReadOnly: boolean) => ({ Type: "bind" as const, Source, Target: "/in", ReadOnly });
    expect(toEngineMount(bind("/app/workspace", false), OWN)).toMatchObject({ ReadOnly: false });
    expect(toEngineMount(bind("/app/workspace", true), OWN)).toMatchObject({ ReadOnly: true });
    expect(toEngineMount(bind("/app/workspace/deps", false), OWN)).toMatchObject({ ReadOnly: true, Target: "/in" });
  });

  test("that the engine can't see is an error with the remedy", () => {
    const mount = { Type: "bind" as const, Source: "/work", Target: "/work", ReadOnly: false };
    expect(() => toEngineMount(mount, OWN)).toThrow(
      expect.objectContaining({
        code: "invalid-workspace",
        hint: expect.stringContaining("-v /path/on/host:/work") as string,
      }),
    );
    expect(toEngineMount({ ...mount, Type: "volume", Source: "packages" }, OWN).Source).toBe("packages");
  });
});
