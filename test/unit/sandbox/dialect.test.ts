import { describe, expect, it } from "vitest";
import type { DockerClient } from "../../../src/sandbox/docker/client.ts";
import {
  type EngineTraits,
  inDialect,
  limitsWithoutEffect,
  readTraits,
  shortReference,
  userInside,
} from "../../../src/sandbox/docker/dialect.ts";

/** What the engines' `/info` said where these were tried, as far as it is read. */
const INFO = {
  docker: { CgroupVersion: "1", SecurityOptions: ["name=seccomp,profile=default"] },
  "rootless docker": { CgroupVersion: "1", SecurityOptions: ["name=seccomp,profile=default", "name=rootless"] },
  podman: { CgroupVersion: "1", SecurityOptions: ["name=seccomp,profile=default"], BuildahVersion: "1.28.2" },
  "rootless podman": { CgroupVersion: "1", Rootless: true, BuildahVersion: "1.28.2" },
  "rootless podman, cgroup v2": { CgroupVersion: "2", Rootless: true, BuildahVersion: "5.0" },
};
const ANN = { uid: 1001, gid: 100 };

function traitsOf(name: keyof typeof INFO, overrides: object = {}): Promise<EngineTraits> {
  const info = { NCPU: 2, MemTotal: 1, MemoryLimit: true, PidsLimit: true, CpuCfsQuota: true, ...INFO[name] };
  const client: Pick<DockerClient, "ask"> & { api: object } = {
    api: { info: () => Promise.resolve({ ...info, ...overrides }) },
    ask: (request) => request,
  };
  return readTraits(client as DockerClient);
}

describe("engines that speak Docker's API", () => {
  it.each([
    ["docker", { podman: false, rootless: false }],
    ["rootless docker", { podman: false, rootless: true }],
    ["podman", { podman: true, rootless: false }],
    ["rootless podman", { podman: true, rootless: true }],
  ] as const)("%s is known by what it says of itself", async (name, expected) => {
    expect(await traitsOf(name)).toMatchObject(expected);
  });

  it.each([
    ["docker", ANN],
    ["rootless docker", { uid: 0, gid: 0 }],
    ["podman", ANN],
    ["rootless podman", ANN],
  ] as const)("under %s, cells run as the user whom the host knows as the owner", async (name, expected) => {
    expect(userInside(await traitsOf(name), { ...ANN, ...{ image: "of the options" } })).toEqual(expected);
  });

  it("an engine that does not say how many CPUs it has refuses none", async () => {
    expect((await traitsOf("docker", { NCPU: 0 })).NCPU).toBe(Infinity);
  });

  it.each([
    ["docker", {}, []],
    ["docker", { PidsLimit: false }, ["the number of processes is not limited"]],
    ["rootless docker", {}, ["rootless on cgroup v1: the engine ignores every limit"]],
    ["rootless podman", {}, ["rootless on cgroup v1: the engine ignores every limit"]],
    ["rootless podman, cgroup v2", { CpuCfsQuota: false }, ["CPU time is not limited"]],
  ] as const)("limits that %s with %j does not apply are told", async (name, overrides, expected) => {
    expect(limitsWithoutEffect(await traitsOf(name, overrides))).toEqual(expected);
  });

  it("a container of Docker's is left as it is", async () => {
    const create = { HostConfig: { Tmpfs: { "/tmp": "rw,uid=1" }, PidsLimit: 5 } };
    expect(inDialect(await traitsOf("rootless docker"), create, ANN)).toBe(create);
  });

  it.each([
    ["podman", { PidsLimit: 5 }],
    ["rootless podman", { UsernsMode: "keep-id:uid=1001,gid=100" }],
    ["rootless podman, cgroup v2", { UsernsMode: "keep-id:uid=1001,gid=100", PidsLimit: 5 }],
  ] as const)(
    "%s: the owner of a tmpfs in its words, the host's user kept, a limit of processes where it can be",
    async (name, expected) => {
      const create = { Image: "i", HostConfig: { Tmpfs: { "/t": "rw,size=1,uid=1,gid=2,mode=0700" }, PidsLimit: 5 } };
      expect(inDialect(await traitsOf(name), create, ANN)).toEqual({
        Image: "i",
        HostConfig: {
          Tmpfs: { "/t": "rw,size=1,U" },
          Ulimits: [{ Name: "nproc", Soft: 16_384, Hard: 16_384 }],
          ...expected,
        },
      });
    },
  );

  it.each([
    ["docker.io/library/ipybox-kernel:1", "ipybox-kernel:1"],
    ["localhost/ipybox-base:1", "ipybox-base:1"],
    ["registry.example/ipybox-kernel:1", "registry.example/ipybox-kernel:1"],
  ])("the image %s is %s", (reference, expected) => {
    expect(shortReference(reference)).toBe(expected);
  });
});
