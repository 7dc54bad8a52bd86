import { readFileSync } from "node:fs";
import { resolve } from "node:path";

/** What a JSON file of the user's holds; a byte order mark, which editors of Windows write, is passed over. Throws what is wrong. */
export function readJsonFile(path: string): unknown {
  return JSON.parse(readFileSync(resolve(path), "utf8").replace(/^\uFEFF/, ""));
}
