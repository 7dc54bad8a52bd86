import { readFileSync } from "node:fs";

import { z } from "zod";

const packageShape = z.object({ version: z.string() });

/** The version of this package, from its package.json, which lies beside `src/` and beside `dist/`. */
export const VERSION = packageShape.parse(
  JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")),
).version;
