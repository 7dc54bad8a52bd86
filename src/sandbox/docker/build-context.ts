import { createHash, type Hash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { Readable } from "node:stream";
import { pack } from "tar-fs";

export interface BuildContext {
  /** `images/kernel` of the package. */
  readonly directory: string;
  readonly arguments: Readonly<Record<string, string>>;
  /** Text of the user's requirements file; undefined when there is none. */
  readonly requirements: string | undefined;
}

/** All that the Dockerfile copies: the same in a checkout, with its tests and tools, and in the installed package. */
const USED_ENTRIES = new Set(["Dockerfile", "excludes.txt", "ipybox_sandbox", "mcpygen", "requirements.lock"]);
/** Keeps modes equal whatever the umask of the checkout was. */
const MODES = { fmode: 0o644, dmode: 0o755 };

/** Short hash of all that decides what the image becomes. Certificates don't: they are absent from the result. */
export async function hashContext(context: BuildContext): Promise<string> {
  const hash = createHash("sha256");
  const paths = await contextFiles(context.directory);
  const contents = await Promise.all(paths.map((path) => readFile(join(context.directory, path))));
  for (const [index, content] of contents.entries()) {
    addField(hash, paths[index] ?? "");
    addField(hash, content);
  }
  addField(hash, JSON.stringify(Object.entries(context.arguments).sort()));
  addField(hash, context.requirements ?? "");
  return hash.digest("hex").slice(0, 16);
}

/** The context as the tar stream that the engine builds from. */
export async function packContext(context: BuildContext, caBundle: string): Promise<Readable> {
  const tar = pack(context.directory, {
    ...MODES,
    entries: await contextFiles(context.directory),
    finalize: false,
    finish: () => {
      tar.entry({ name: "ca/bundle.pem", mode: MODES.fmode }, caBundle);
      if (context.requirements !== undefined) {
        tar.entry({ name: "requirements.txt", mode: MODES.fmode }, context.requirements);
      }
      tar.finalize();
    },
  });
  return Readable.from(tar); // tar-fs has streams of its own kind
}

/** Paths below `directory`, sorted. */
async function contextFiles(directory: string): Promise<string[]> {
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
