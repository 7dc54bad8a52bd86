import { describe, expect, it } from "vitest";
import type { EngineTraits } from "../../../src/sandbox/docker/dialect.ts";
import { type ContainerPlan, toCreateOptions } from "../../../src/sandbox/docker/isolation.ts";

const DOCKER: EngineTraits = {
  NCPU: 8,
  MemTotal: 16 * 1024 ** 3,
  MemoryLimit: true,
  PidsLimit: true,
  CpuCfsQuota: true,
  CgroupVersion: "1",
  SecurityOptions: ["name=seccomp,profile=default"],
  Rootless: false,
  podman: false,
  rootless: false,
};

const plan: ContainerPlan = {
  id: "c0ffee",
  sessionId: "c0ffee",
  role: "session",
  image: "ipybox-kernel:1234",
  owner: "machine:boot:1:2:3",
  uid: 1000,
  gid: 100,
  workspace: { path: "/home/ann/project", key: "k", masked: [], protected: [] },
  extraMounts: [],
  crossing: {
    type: "socket",
    runDirectory: "/run/user/1000/ipybox/r/s",
    emptyFile: "/run/user/1000/ipybox/r/s/empty",
  },
  limits: { memoryBytes: 2 * 1024 ** 3, cpus: 2, pids: 512, tmpBytes: 512 * 1024 ** 2 },
  traits: DOCKER,
  runtime: undefined,
  gpus: undefined,
  ownMounts: undefined,
  mounted: { type: "host", emptyFile: "/run/user/1000/ipybox/r/s/empty" },
};

describe("the create options of a container", () => {
  const options = toCreateOptions(plan);
  const host = options.HostConfig ?? {};

  it.each([
    ["has no network", host.NetworkMode, "none"],
    ["has no capability", host.CapDrop, ["ALL"]],
    ["adds no capability", host.CapAdd, undefined],
    ["is not privileged", host.Privileged, false],
    ["gains no privileges, under the engine's default profiles", host.SecurityOpt, ["no-new-privileges"]],
    ["has a read-only root", host.ReadonlyRootfs, true],
    ["limits memory", host.Memory, 2 * 1024 ** 3],
    ["has no swap beyond it", host.MemorySwap, 2 * 1024 ** 3],
    ["limits CPU time", host.NanoCpus, 2e9],
    ["limits processes", host.PidsLimit, 512],
    ["is removed when it ends", host.AutoRemove, true],
    ["has our own init", host.Init, false],
    ["shares no IPC", host.IpcMode, "private"],
    ["never uses Binds", host.Binds, undefined],
    ["adds no device", host.Devices, undefined],
    ["asks for no GPU", host.DeviceRequests, undefined],
    ["leaves the runtime to the engine", host.Runtime, undefined],
    ["bounds its log", host.LogConfig, { Type: "json-file", Config: { "max-size": "1m", "max-file": "1" } }],
    ["runs as the user", options.User, "1000:100"],
    ["has a neutral host name", options.Hostname, "ipybox"],
    ["has no environment of its own", options.Env, []],
    ["has no command of its own", options.Cmd, undefined],
    ["has no stdin", options.OpenStdin, false],
    ["works in the workspace", options.WorkingDir, "/home/ann/project"],
    ["is named after the session", options.name, "ipybox-c0ffee"],
  ])("%s", (_what, found, expected) => expect(found).toEqual(expected));

  it("labels session, owner, workspace and role", () => {
    expect(options.Labels).toEqual({
      "io.ipybox.session": "c0ffee",
      "io.ipybox.owner": "machine:boot:1:2:3",
      "io.ipybox.workspace": "/home/ann/project",
      "io.ipybox.role": "session",
    });
  });

  it("gives /tmp and home room in which programs may run, and no setuid", () => {
    expect(host.Tmpfs?.["/tmp"]).toBe("rw,exec,nosuid,nodev,size=536870912,mode=1777");
    expect(host.Tmpfs?.["/home/ipybox"]).toBe("rw,exec,nosuid,nodev,size=536870912,uid=1000,gid=100,mode=0700");
    expect(host.Tmpfs?.["/run/ipybox-kernels"]).toContain("noexec,nosuid,nodev");
  });

  it("never asks for more CPUs than the engine has, which would be refused", () => {
    expect(toCreateOptions({ ...plan, traits: { ...DOCKER, NCPU: 1 } }).HostConfig?.NanoCpus).toBe(1e9);
  });

  it("passes runtime and GPUs on", () => {
    const { HostConfig } = toCreateOptions({ ...plan, runtime: "runsc", gpus: "all" });
    expect(HostConfig?.Runtime).toBe("runsc");
    expect(HostConfig?.DeviceRequests).toMatchObject([{ Count: -1, Capabilities: [["gpu"]] }]);
  });

  it("carries everything over init's stdin and stdout, which no log copies, where no directory is shared", () => {
    const options = toCreateOptions({ ...plan, crossing: { type: "exec" } });
    expect(options).toMatchObject({ Cmd: ["--relay=abstract"], OpenStdin: true, StdinOnce: true, Tty: false });
    expect(options.HostConfig?.LogConfig).toEqual({ Type: "none", Config: {} });
    expect(options.HostConfig?.Mounts?.map(({ Target }) => Target)).not.toContain("/run/ipybox");
  });

  it("mounts what the engine has at other paths than a server in a container", () => {
    const host = "/home/ann/project";
    const own = (Source: string, Destination: string) => ({ Type: "bind" as const, Source, Destination, RW: true });
    const ownMounts = [own("/engine/project", host), own("/engine/run", "/run/user/1000/ipybox/r/s")];
    const { HostConfig } = toCreateOptions({ ...plan, ownMounts });
    expect(HostConfig?.Mounts).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ Source: "/engine/project", Target: host }),
        expect.objectContaining({ Source: "/engine/project", Target: "/workspace" }),
        expect.objectContaining({ Source: "/engine/run", Target: "/run/ipybox", ReadOnly: true }),
      ]),
    );
  });

  it("mounts the engine's own empty file as it is, in a container too", () => {
    const host = "/home/ann/project";
    const workspace = { ...plan.workspace, masked: [`${host}/.env`] };
    const ownMounts = [{ Type: "bind" as const, Source: "/engine/project", Destination: host, RW: true }];
    const mounted = { type: "host", emptyFile: "/engine/volumes/empty" } as const;
    const { HostConfig } = toCreateOptions({ ...plan, workspace, ownMounts, mounted, crossing: { type: "exec" } });
    const sources = HostConfig?.Mounts?.map(({ Source, Target }) => [Source, Target]);
    expect(sources).toContainEqual(["/engine/volumes/empty", `${host}/.env`]);
    expect(sources).toContainEqual(["/engine/project", host]);
  });

  it("works in /workspace where the workspace has no path of its own inside", () => {
    const workspace = { ...plan.workspace, path: "/usr/src/project" };
    expect(toCreateOptions({ ...plan, workspace }).WorkingDir).toBe("/workspace");
  });
});
