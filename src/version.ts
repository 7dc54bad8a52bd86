import { readFileSync } from "node:fs";

import { z } from "zod";

import { packageFile } from "./common/package-files.ts";

const packageShape = z.object({ version: z.string() });

/** The version of this package, from its package.json. */
export const VERSION = packageShape.parse(JSON.parse(readFileSync(packageFile("package.json"), "utf8"))).version;
