import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { packContext } from "../../../src/sandbox/docker/build-context.ts";
import { hashSources, type KernelSources } from "../../../src/sandbox/kernel-sources.ts";

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "test-context-"));
  await writeFile(join(directory, "Dockerfile"), "FROM x");
  await mkdir(join(directory, "ipybox_sandbox", "__pycache__"), { recursive: true });
  await mkdir(join(directory, "tests"));
  await writeFile(join(directory, "ipybox_sandbox", "a.py"), "a");
});
afterEach(() => rm(directory, { recursive: true }));

const context = (changes: Partial<KernelSources> = {}): KernelSources => ({
  directory,
  arguments: { UID: "1000" },
  requirements: undefined,
  ...changes,
});

describe("the build context's hash", () => {
  it("stays the same for the same content", async () => {
    expect(await hashSources(context())).toBe(await hashSources(context()));
  });

  it("changes with a file, a file's name, an argument and the requirements", async () => {
    const hashes = [
      await hashSources(context()),
      await hashSources(context({ arguments: { UID: "1001" } })),
      await hashSources(context({ requirements: "numpy" })),
    ];
    await writeFile(join(directory, "ipybox_sandbox", "b.py"), "");
    hashes.push(await hashSources(context()));
    await writeFile(join(directory, "ipybox_sandbox", "b.py"), "b");
    hashes.push(await hashSources(context()));
    expect(new Set(hashes).size).toBe(5);
  });

  it("does not change with tests, compiled and hidden files", async () => {
    const before = await hashSources(context());
    await writeFile(join(directory, "tests", "test_a.py"), "");
    await writeFile(join(directory, "ipybox_sandbox", "__pycache__", "a.pyc"), "");
    await mkdir(join(directory, ".venv"));
    await writeFile(join(directory, ".venv", "python"), "");
    expect(await hashSources(context())).toBe(before);
  });
});

describe("the packed build context", () => {
  it("holds the files, the certificates and the requirements", async () => {
    await writeFile(join(directory, "tests", "test_a.py"), "");
    const tar = await text(await packContext(context({ requirements: "numpy\n" }), "CERTIFICATES\n"));
    const names = ["Dockerfile", "ipybox_sandbox/a.py", "ca/bundle.pem", "requirements.txt"];
    expect(names.filter((name) => tar.includes(`${name}\0`))).toEqual(names);
    expect(tar).toContain("CERTIFICATES");
    expect(tar).not.toContain("test_a.py");
  });
});
