import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { defaultSockets, resolveEndpoint } from "../../../src/sandbox/engine-endpoint.ts";

let config = "";
beforeAll(async () => {
  config = await mkdtemp(join(tmpdir(), "test-docker-config-"));
  const id = createHash("sha256").update("colima").digest("hex");
  await mkdir(join(config, "contexts", "meta", id), { recursive: true });
  await writeFile(
    join(config, "contexts", "meta", id, "meta.json"),
    JSON.stringify({ Name: "colima", Endpoints: { docker: { Host: "unix:///home/ann/.colima/docker.sock" } } }),
  );
});
afterAll(() => rm(config, { recursive: true }));

describe("the engine's address", () => {
  it.each([
    ["unix:///run/x.sock", { type: "socket", path: "/run/x.sock" }],
    ["tcp://build.example:4000", { type: "tcp", host: "build.example", port: 4000 }],
    ["tcp://build.example", { type: "tcp", host: "build.example", port: 2375 }],
    ["tcp://[::1]:2375", { type: "tcp", host: "::1", port: 2375 }],
    ["https://build.example", { type: "tcp", host: "build.example", port: 2376, tls: {} }],
  ])("is DOCKER_HOST %s", (host, expected) => {
    expect(resolveEndpoint({ DOCKER_HOST: host, DOCKER_CONTEXT: "colima" })).toMatchObject(expected);
  });

  it("is that of DOCKER_CONTEXT", () => {
    const found = resolveEndpoint({ DOCKER_CONFIG: config, DOCKER_CONTEXT: "colima" });
    expect(found).toMatchObject({ type: "socket", path: "/home/ann/.colima/docker.sock" });
  });

  it("is that of the current context", async () => {
    await writeFile(join(config, "config.json"), JSON.stringify({ currentContext: "colima" }));
    expect(resolveEndpoint({ DOCKER_CONFIG: config })).toMatchObject({ path: "/home/ann/.colima/docker.sock" });
    await writeFile(join(config, "config.json"), "not JSON");
    expect(resolveEndpoint({ DOCKER_CONFIG: config })).toMatchObject({ type: "socket" });
  });

  it.each([
    ["on Windows Docker's pipe", "win32", {}, ["//./pipe/docker_engine"]],
    ["on macOS Docker Desktop's socket", "darwin", {}, ["/home/ann/.docker/run/docker.sock", "/var/run/docker.sock"]],
    [
      "on Linux the system's, Docker Desktop's, rootless Docker's, Podman's",
      "linux",
      { XDG_RUNTIME_DIR: "/run/user/1000" },
      [
        "/var/run/docker.sock",
        "/home/ann/.docker/desktop/docker.sock",
        "/run/user/1000/docker.sock",
        "/run/user/1000/podman/podman.sock",
        "/run/podman/podman.sock",
      ],
    ],
    [
      "without a runtime directory none of a user's",
      "linux",
      {},
      ["/var/run/docker.sock", "/home/ann/.docker/desktop/docker.sock", "/run/podman/podman.sock"],
    ],
  ] as const)("is by default %s", (_, platform, env, sockets) => {
    expect(defaultSockets(env, { platform, home: "/home/ann" })).toEqual(sockets);
  });

  it("is the pipe on Windows, whether or not an engine runs", () => {
    const found = resolveEndpoint(
      { DOCKER_CONFIG: join(config, "none") },
      { platform: "win32", home: "C:\\Users\\ann" },
    );
    expect(found).toEqual({
      type: "socket",
      address: "npipe:////./pipe/docker_engine",
      path: "//./pipe/docker_engine",
    });
  });

  it.each([
    ["npipe:////./pipe/dockerDesktopLinuxEngine", "//./pipe/dockerDesktopLinuxEngine"],
    ["npipe://\\\\.\\pipe\\docker_engine", "\\\\.\\pipe\\docker_engine"],
    ["npipe://", "//./pipe/docker_engine"],
  ])("is the pipe %s on Windows alone", (address, path) => {
    const env = { DOCKER_HOST: address };
    const found = resolveEndpoint(env, { platform: "win32", home: "C:\\Users\\ann" });
    expect(found).toEqual({ type: "socket", address: `npipe://${path}`, path });
    // WSL is Linux, and may have the docker contexts of its Windows.
    const there = { platform: "linux", home: "/home/ann" } as const;
    expect(() => resolveEndpoint(env, there)).toThrow("pipe of Windows");
  });

  it("is where it would be without variables that are empty", () => {
    const env = { DOCKER_CONFIG: config, DOCKER_CONTEXT: "colima" };
    const expected = resolveEndpoint(env);
    expect(resolveEndpoint({ ...env, DOCKER_HOST: "" })).toEqual(expected);
    const address = { DOCKER_HOST: "tcp://build.example", DOCKER_TLS_VERIFY: "1", DOCKER_CONFIG: config };
    expect(resolveEndpoint({ ...address, DOCKER_CERT_PATH: "" })).toEqual(resolveEndpoint(address));
    const home = { platform: "linux", home: "/home/ann" } as const;
    expect(resolveEndpoint({ DOCKER_CONFIG: "", DOCKER_CONTEXT: "" }, home)).toEqual(resolveEndpoint({}, home));
  });

  it("has TLS with the certificates beside the configuration unless DOCKER_CERT_PATH names others", async () => {
    await writeFile(join(config, "ca.pem"), "CA");
    const env = { DOCKER_HOST: "tcp://build.example", DOCKER_CONFIG: config };
    expect(resolveEndpoint(env)).toMatchObject({ port: 2375, tls: undefined });
    expect(resolveEndpoint({ ...env, DOCKER_TLS_VERIFY: "1" })).toMatchObject({
      port: 2376,
      tls: { ca: Buffer.from("CA") },
    });
    const others = { ...env, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: join(config, "none") };
    expect(resolveEndpoint(others)).toMatchObject({ port: 2376, tls: {} });
  });

  it.each([
    ["ssh://build", ["--", "build", "docker", "system", "dial-stdio"]],
    ["ssh://ann@build:2222", ["-l", "ann", "-p", "2222", "--", "build", "docker", "system", "dial-stdio"]],
    ["ssh://[::1]/", ["--", "::1", "docker", "system", "dial-stdio"]],
    [
      "ssh://build/run/user/1000/docker.sock",
      ["--", "build", "docker", "--host", "unix:///run/user/1000/docker.sock", "system", "dial-stdio"],
    ],
  ])("is reached over ssh, which asks nobody anything: %s", (address, command) => {
    const args = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", ...command];
    expect(resolveEndpoint({ DOCKER_HOST: address })).toEqual({ type: "ssh", address, args });
  });

  it.each([
    "ssh://",
    "ssh://ann:secret@build",
    "ssh://-oProxyCommand=x",
    "ssh://build/a;b",
    "ssh://build?x",
    "ssh://build/#x",
  ])("is not %s, which means more to ssh or to a shell", (address) => {
    expect(() => resolveEndpoint({ DOCKER_HOST: address })).toThrow(address);
  });

  it("can't be of an unknown kind, or of a context that is not there", () => {
    expect(() => resolveEndpoint({ DOCKER_HOST: "ftp://x" })).toThrow("ftp://x");
    expect(() => resolveEndpoint({ DOCKER_CONFIG: config, DOCKER_CONTEXT: "nowhere" })).toThrow("nowhere");
  });
});
