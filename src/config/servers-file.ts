import { readFileSync } from "node:fs";
import { resolve } from "node:path";

import { z } from "zod";

import { IpyboxError, messageOf } from "../common/errors.ts";

const fileShape = z.object({ mcpServers: z.record(z.string(), z.record(z.string(), z.unknown())) });

/** The servers of a `--mcp-config` file by name, their parameters unchecked. Throws `invalid-configuration`. */
export function readServersFile(path: string): ReadonlyMap<string, unknown> {
  try {
    return new Map(Object.entries(fileShape.parse(JSON.parse(readFileSync(resolve(path), "utf8"))).mcpServers));
  } catch (error) {
    const reason = error instanceof z.ZodError ? z.prettifyError(error) : messageOf(error);
    throw new IpyboxError("invalid-configuration", `--mcp-config ${path}: ${reason}`, {
      hint: 'Give a JSON file of the form {"mcpServers": {"name": {"command": "npx", "args": ["-y", "..."]}}}.',
      cause: error,
    });
  }
}
