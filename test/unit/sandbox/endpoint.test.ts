import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { resolveEndpoint } from "../../../src/sandbox/engine-endpoint.ts";

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
    ["npipe:////./pipe/docker_engine", { type: "socket", path: "//./pipe/docker_engine" }],
    ["tcp://build.example:4000", { type: "tcp", host: "build.example", port: 4000 }],
    ["tcp://build.example", { type: "tcp", host: "build.example", port: 2375 }],
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

  it("can't be of an unknown kind, or of a context that is not there", () => {
    expect(() => resolveEndpoint({ DOCKER_HOST: "ftp://x" })).toThrow("ftp://x");
    expect(() => resolveEndpoint({ DOCKER_CONFIG: config, DOCKER_CONTEXT: "nowhere" })).toThrow("nowhere");
  });
});
