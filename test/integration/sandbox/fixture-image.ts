import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { ReleaseStack } from "../../../src/common/lifecycle.ts";
import { docker } from "./docker-harness.ts";

/** An `images` directory with a kernel image of the test's own, given as its files; removed with `stack`. */
export async function makeImagesDirectory(
  stack: ReleaseStack,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "test-images-"));
  stack.defer(() => rm(directory, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    const path = join(directory, "kernel", name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
  return directory;
}

export async function removeImage(tag: string): Promise<void> {
  await docker.getImage(tag).remove();
}
