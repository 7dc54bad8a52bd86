import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { loadConfig } from "../../../src/config/load.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "test-ipybox-config-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** A configuration home without a file, so that the developer's own is not read. */
const env = (variables: Record<string, string> = {}) => ({ XDG_CONFIG_HOME: join(directory, "none"), ...variables });

function configFile(content: unknown): string {
  const path = join(mkdtempSync(join(directory, "file-")), "config.json");
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

describe("loadConfig", () => {
  test("knows every default", () => {
    expect(loadConfig({ flags: {}, env: env() }).config).toMatchObject({
      workspace: ".",
      sandbox: "docker",
      memory: 2 * 2 ** 30,
      cpus: 2,
      pids: 512,
      tmpSize: 512 * 2 ** 20,
      expose: ["*"],
      mount: [],
      allowWorkspaceUpstream: false,
      registration: "allow",
      logLevel: "info",
    });
  });

  test("lets a flag beat the environment, the environment the file, the file the default", () => {
    const path = configFile({ memory: "1g", cpus: 1, pids: 100 });
    const { config } = loadConfig({
      flags: { memory: "3g" },
      env: env({ IPYBOX_MEMORY: "4g", IPYBOX_CPUS: "0.5" }),
      configFile: path,
    });
    expect(config).toMatchObject({ memory: 3 * 2 ** 30, cpus: 0.5, pids: 100, tmpSize: 512 * 2 ** 20 });
  });

  test("takes repeatable options as a comma-separated list from the environment", () => {
    expect(loadConfig({ flags: {}, env: env({ IPYBOX_MASK: "a, b/*.key ,," }) }).config?.mask).toEqual([
      "a",
      "b/*.key",
    ]);
  });

  test("accepts keys of the file as flags are spelled and in camel case", () => {
    const path = configFile({ "tmp-size": "1m", logLevel: "debug" });
    expect(loadConfig({ flags: {}, env: env(), configFile: path }).config).toMatchObject({
      tmpSize: 2 ** 20,
      logLevel: "debug",
    });
  });

  test("takes a file that an editor of Windows wrote", () => {
    const path = configFile(`\uFEFF${JSON.stringify({ memory: "1g" })}\r\n`);
    expect(loadConfig({ flags: {}, env: env(), configFile: path }).config).toMatchObject({ memory: 2 ** 30 });
  });

  test("lists every problem of every source at once", () => {
    const path = configFile({ colour: "blue", cpus: "many" });
    const { problems } = loadConfig({
      flags: { memory: "lots", sandbox: "jail", gpus: "some" },
      env: env({ IPYBOX_PIDS: "-1", IPYBOX_POLICY: "p.json", IPYBOX_MASKS: "", IPYBOX_TOOLS: "/x" }),
      configFile: path,
    });
    expect(problems).toEqual([
      "unknown option IPYBOX_POLICY in the environment",
      expect.stringContaining('unknown option "colour"'),
      expect.stringContaining("--sandbox"),
      expect.stringContaining("--memory"),
      expect.stringContaining('"cpus" in the configuration file'),
      expect.stringContaining("IPYBOX_PIDS"),
      '--gpus: must be all or a positive integer, not "some"',
    ]);
  });

  test.for(["not json", "[]", '"text"', "null"])("refuses a configuration file that holds %s", (content) => {
    expect(loadConfig({ flags: {}, env: env(), configFile: configFile(content) }).problems).toHaveLength(1);
  });

  test.for([
    ["workspace", 5, "must be text"],
    ["image", 5, "must be text"],
    ["base-image", 7, "must be text"],
    ["allow-workspace-upstream", 1, "must be true or false, not 1"],
    ["log-level", 5, "must be one of debug, info, warn, error, not 5"],
  ] as const)("refuses %s = %j of the file, which is of a wrong type", ([key, value, problem]) => {
    const { problems } = loadConfig({ flags: {}, env: env(), configFile: configFile({ [key]: value }) });
    expect(problems).toEqual([`"${key}" in the configuration file: ${problem}`]);
  });

  test("takes numbers of the file where numbers and sizes are meant", () => {
    const path = configFile({ memory: 2 ** 30, "tmp-size": 2 ** 25, cpus: 1.5, pids: 100, gpus: 1 });
    expect(loadConfig({ flags: {}, env: env(), configFile: path }).config).toMatchObject({
      memory: 2 ** 30,
      tmpSize: 2 ** 25,
      cpus: 1.5,
      pids: 100,
      gpus: 1,
    });
  });

  test("refuses as --requirements what is no regular file, a pipe without blocking", () => {
    const pipe = join(directory, "pipe");
    execFileSync("mkfifo", [pipe]);
    for (const path of [directory, pipe]) {
      const { problems } = loadConfig({ flags: { requirements: path }, env: env() });
      expect(problems).toEqual([`--requirements: ${path}: it is no regular file`]);
    }
  });

  test("reports a configuration file that was named but is missing", () => {
    const { problems } = loadConfig({ flags: {}, env: env(), configFile: join(directory, "missing.json") });
    expect(problems).toEqual([expect.stringContaining("missing.json")]);
  });

  test.for([
    ["512m", 512 * 2 ** 20],
    ["1.5g", 1.5 * 2 ** 30],
    ["2GiB", 2 * 2 ** 30],
    ["8388608", 2 ** 23],
  ] as const)("reads the size %s", ([text, bytes]) => {
    expect(loadConfig({ flags: { memory: text }, env: env() }).config?.memory).toBe(bytes);
  });

  test.for(["", "g", "-1g", "0", "1x", "1 2"])("refuses the size %j", (text) => {
    expect(loadConfig({ flags: { memory: text }, env: env() }).problems).toHaveLength(1);
  });
});
