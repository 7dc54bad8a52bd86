import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { loadConfig } from "../../src/config/load.ts";
import { findGroundProblems, layGround } from "../../src/ground.ts";

let directory: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "ground-")));
  return () => rmSync(directory, { recursive: true });
});
afterEach(() => vi.unstubAllEnvs());

test("what can't be shared is said at once, with what to do about it", async () => {
  const mount = ["/etc:/data", `${directory}/none:/data`, "a:relative"];
  const loaded = loadConfig({ flags: { workspace: "/", mount }, env: { XDG_CONFIG_HOME: directory } });
  const refused = loaded.config && layGround(loaded.config);
  await expect(refused).rejects.toMatchObject({
    code: "invalid-workspace",
    message: [
      "/ can't be shared as workspace: it is the whole file system",
      "/etc can't be shared as mount: it is a system directory",
      `${directory}/none can't be mounted: there is no such file or directory`,
      "--mount 'a:relative' is not SRC[:DST][:rw]",
    ].join("\n"),
    hint: expect.stringMatching(/--workspace.*narrower directory.*DST must be/) as string,
  });
});

test("what the environment, the env file and mounts are refused for is said with the rest", async () => {
  vi.stubEnv("KERNEL_ENV_HOME", "/x");
  vi.stubEnv("KERNEL_ENV_PYTHONPATH", "/x");
  for (const name of ["data", "more"]) mkdirSync(join(directory, name));
  symlinkSync("data", join(directory, ".env"));
  writeFileSync(join(directory, "srt.json"), "{");
  const flags = {
    workspace: directory,
    mount: [join(directory, "data"), join(directory, "more:/more")],
    mask: ["../secrets", "/data/*.key", "*.pem", `${directory}/own`],
    protect: ["/etc"],
    sandboxConfig: join(directory, "srt.json"),
  };
  const { config } = loadConfig({ flags, env: { XDG_CONFIG_HOME: directory } });
  const expected = [
    `${directory}/data can't be mounted: it lies in ${directory}, where cells write`,
    `${directory}/more can't be mounted: it lies in ${directory}, where cells write`,
    `The env file ${directory}/.env can't be used: it is a link or no regular file`,
    "KERNEL_ENV_HOME: the kernel's runtime needs HOME, it can't be overridden",
    "KERNEL_ENV_PYTHONPATH: the kernel's runtime needs PYTHONPATH, it can't be overridden",
    "--mask: ../secrets does not lie below the workspace",
    "--protect: /etc does not lie below the workspace",
    expect.stringContaining(`--sandbox-config ${directory}/srt.json: `) as string,
  ];
  expect(config && (await findGroundProblems(config))).toEqual(expected);
  await expect(config && layGround(config)).rejects.toMatchObject({ code: "invalid-workspace" });
});

test("names of variables in the env file are checked as those of the environment are", async () => {
  writeFileSync(join(directory, "x.env"), "KERNEL_ENV_LD_PRELOAD=/x\nKERNEL_ENV_FINE=1\n");
  const problems = ["KERNEL_ENV_LD_PRELOAD: the kernel's runtime needs LD_PRELOAD, it can't be overridden"];
  expect(await findGroundProblems({ workspace: directory, envFile: join(directory, "x.env") })).toEqual(problems);
});

test("the engine's address is no matter where cells run without containers", async () => {
  vi.stubEnv("DOCKER_HOST", "pigeon://loft");
  const problems = (sandbox: "docker" | "srt" | "none") => findGroundProblems({ workspace: directory, sandbox });
  expect(await problems("docker")).toEqual(["The engine's address is of an unknown kind: pigeon://loft"]);
  expect(await problems("srt")).toEqual([]);
  expect(await problems("none")).toEqual([]);
});

test("an env file may lie in a directory that a link names", async () => {
  mkdirSync(join(directory, "secrets"));
  symlinkSync("secrets", join(directory, "link"));
  writeFileSync(join(directory, "secrets/x.env"), "KEY=1\n");
  const flags = { workspace: join(directory, "workspace"), envFile: join(directory, "link/x.env") };
  const { config } = loadConfig({ flags, env: { XDG_CONFIG_HOME: directory } });
  const ground = config && (await layGround(config));
  expect((await ground?.variables())?.get("KEY")).toEqual({ value: "1", fromEnvFile: true });
});
