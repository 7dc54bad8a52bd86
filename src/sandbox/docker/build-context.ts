import { Readable } from "node:stream";
import { pack } from "tar-fs";
import { type KernelSources, sourcePaths } from "../kernel-sources.ts";

/** Keeps modes equal whatever the umask of the checkout was. */
const MODES = { fmode: 0o644, dmode: 0o755 };

/** The context as the tar stream that the engine builds from. */
export async function packContext(context: KernelSources, caBundle: string): Promise<Readable> {
  const tar = pack(context.directory, {
    ...MODES,
    entries: await sourcePaths(context.directory),
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
