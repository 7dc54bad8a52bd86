import { createHash, type Hash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { IpyboxError, pathReasonOf } from "../common/errors.ts";

/** What a kernel's Python environment is made from, in an image or on this host. */
export interface KernelSources {
  /** `images/kernel` of the package. */
  readonly directory: string;
  readonly arguments: Readonly<Record<string, string>>;
  /** Text of the user's requirements file; undefined when there is none. */
  readonly requirements: string | undefined;
}

/** What both need to know to make it. */
export interface KernelBuildOptions {
  /** Requirements file with packages to bake in. */
  readonly requirements?: string | undefined;
  readonly stateDir: string;
  /** The package's `images` directory. */
  readonly imagesDir: string;
  /** Of the server; its PATH must not lead into a workspace. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** All that is used of the directory: the same in a checkout, with its tests and tools, and in the installed package. */
const USED_ENTRIES = new Set(["Dockerfile", "excludes.txt", "ipybox_sandbox", "mcpygen", "requirements.lock"]);

/** Short hash of all that decides what becomes of them. Certificates don't: they are absent from the result. */
export async function hashSources(sources: KernelSources): Promise<string> {
  const hash = createHash("sha256");
  const paths = await sourcePaths(sources.directory);
  const contents = await Promise.all(paths.map((path) => readFile(join(sources.directory, path))));
  for (const [index, content] of contents.entries()) {
    addField(hash, paths[index] ?? "");
    addField(hash, content);
  }
  addField(hash, JSON.stringify(Object.entries(sources.arguments).sort()));
  addField(hash, sources.requirements ?? "");
  return hash.digest("hex").slice(0, 16);
}

/** The text of the file that `--requirements` names. Rejects with `invalid-configuration`. */
export async function readRequirements(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new IpyboxError(
      "invalid-configuration",
      `The requirements file ${path} can't be read: ${pathReasonOf(cause)}`,
      {
        hint: "Check --requirements.",
        cause,
      },
    );
  }
}

/** Paths below `directory`, sorted. */
export async function sourcePaths(directory: string): Promise<string[]> {
  const top = (await readdir(directory, { withFileTypes: true })).filter(({ name }) => USED_ENTRIES.has(name));
  const nested = await Promise.all(
    top.map(async (entry) => (entry.isDirectory() ? await sourceFiles(directory, entry.name) : [entry.name])),
  );
  return nested.flat().sort();
}

async function sourceFiles(directory: string, below: string): Promise<string[]> {
  const entries = await readdir(join(directory, below), { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".pyc"))
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)).replaceAll(sep, "/"));
}

/** With its length in front, so that no two sequences of fields are the same bytes. */
function addField(hash: Hash, field: string | Buffer): void {
  hash.update(`${Buffer.byteLength(field)}:`);
  hash.update(field);
}
