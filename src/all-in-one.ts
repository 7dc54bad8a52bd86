import { readFileSync } from "node:fs";

import { z } from "zod";

import { systemCodeOf } from "./common/errors.ts";
import { packageFile } from "./common/package-files.ts";

const user = z.object({ uid: z.number().int().positive(), gid: z.number().int().positive() });
const usersSchema = z.object({ kernel: user, installer: user, upstream: user });

/** In the all-in-one image, which process runs as whom: none of them can touch those of another. The server is root. */
export type AllInOneUsers = z.infer<typeof usersSchema>;

/** Where things are in the image; images/server/Dockerfile makes them. */
export const ALL_IN_ONE = {
  /** Virtual environment of the kernel image. */
  environment: "/opt/ipybox",
  /** What outlives the container where a volume is mounted there. */
  data: "/var/lib/ipybox",
  upstreamName: "ipybox-mcp",
  upstreamHome: "/home/ipybox-mcp",
  /** Private working directories of MCP servers. */
  workingDirectories: "/var/lib/ipybox/servers",
} as const;

/** Undefined outside of the all-in-one image, which has the file beside the package's own. */
export function readAllInOneUsers(): AllInOneUsers | undefined {
  try {
    return usersSchema.parse(JSON.parse(readFileSync(packageFile("all-in-one.json"), "utf8")));
  } catch (error) {
    if (systemCodeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}
