import { existsSync } from "node:fs";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Path of a file of this package, by its name in it. Bundled code can't tell that from where it lies itself. */
export function packageFile(name: string): string {
  return join(ROOT, name);
}

/** A program of ours that another process runs, named without its extension: the source in a checkout, else what was built of it. */
export function programFile(name: string): string {
  return extname(HERE) === ".ts" ? packageFile(`src/${name}.ts`) : packageFile(`dist/${name}.js`);
}

const HERE = fileURLToPath(import.meta.url);
const ROOT = rootOf(dirname(HERE));

function rootOf(directory: string): string {
  return existsSync(join(directory, "package.json")) ? directory : rootOf(dirname(directory));
}
