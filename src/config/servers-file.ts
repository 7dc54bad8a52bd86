import { z } from "zod";

import { IpyboxError, pathReasonOf } from "../common/errors.ts";
import { describeIssues } from "../common/issues.ts";
import { readJsonFile } from "../common/read-json.ts";

const error = "must be an object";
const serverParams = z.record(z.string(), z.unknown(), { error });
const fileShape = z.object({ mcpServers: z.record(z.string(), serverParams, { error }) }, { error });

/** The servers of a `--mcp-config` file by name, their parameters unchecked. Throws `invalid-configuration`. */
export function readServersFile(path: string): ReadonlyMap<string, unknown> {
  try {
    return new Map(Object.entries(fileShape.parse(readJsonFile(path)).mcpServers));
  } catch (error) {
    const reason = error instanceof z.ZodError ? describeIssues(error, "the file").join("; ") : pathReasonOf(error);
    throw new IpyboxError("invalid-configuration", `--mcp-config ${path}: ${reason}`, {
      hint: 'Give a JSON file of the form {"mcpServers": {"name": {"command": "npx", "args": ["-y", "..."]}}}.',
      cause: error,
    });
  }
}
