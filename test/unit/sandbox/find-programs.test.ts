import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findOnPath } from "../../../src/common/executables.ts";
import { findPython, findUv } from "../../../src/sandbox/local/find-programs.ts";

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "test-programs-"));
});
afterEach(() => rmSync(scratch, { recursive: true }));

const { signal } = new AbortController();

function makeProgram(directory: string, name: string, script: string, mode = 0o755): string {
  mkdirSync(join(scratch, directory), { recursive: true });
  const path = join(scratch, directory, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, mode);
  return path;
}

const path = (...directories: string[]) => ({ PATH: directories.map((name) => join(scratch, name)).join(":") });

describe("a program of the host", () => {
  it("is the first executable file of its name on PATH", () => {
    makeProgram("a", "uv", "", 0o644);
    mkdirSync(join(scratch, "b/uv"), { recursive: true });
    const third = makeProgram("c", "uv", "");
    makeProgram("d", "uv", "");
    expect(findUv(path("nowhere", "a", "b", "c", "d"))).toBe(third);
    expect(findUv(path("a", "b"))).toBeUndefined();
    expect(findUv({})).toBeUndefined();
  });

  it("is not looked for in the working directory, nor below it", () => {
    expect(findOnPath("docker-build.sh", process.cwd())).toBe(join(process.cwd(), "docker-build.sh"));
    for (const path of ["", ".", "src/..", "..:./."]) expect(findOnPath("docker-build.sh", path)).toBeUndefined();
  });
});

describe("the Python that environments are made with", () => {
  it("is the one that python3 says it is", async () => {
    makeProgram("a", "python3", "echo /opt/python/bin/python3.13");
    expect(await findPython(path("a"), signal)).toBe("/opt/python/bin/python3.13");
  });

  it("is another where python3 is too old, incomplete, or no program", async () => {
    makeProgram("a", "python3", "exit 1");
    makeProgram("a", "python3.14", "echo ModuleNotFoundError: ensurepip >&2; exit 1");
    writeFileSync(join(scratch, "a/python3.13"), "\u007fELF");
    chmodSync(join(scratch, "a/python3.13"), 0o755);
    makeProgram("a", "python3.12", 'echo "$0"');
    expect(await findPython(path("a"), signal)).toBe(join(scratch, "a/python3.12"));
  });

  it("is none where nothing fits: the error says what to install", async () => {
    makeProgram("a", "python3", "exit 1");
    await expect(findPython(path("a"), signal)).rejects.toMatchObject({
      code: "environment-build-failed",
      hint: expect.stringContaining("python3-venv") as string,
    });
  });

  it("is not looked for any further when the caller gives up", async () => {
    makeProgram("a", "python3", "exit 1");
    const reason = new Error("enough");
    await expect(findPython(path("a"), AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});
