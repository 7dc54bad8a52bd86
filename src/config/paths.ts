import { accessSync, constants, statSync } from "node:fs";
import { resolve } from "node:path";

import { IpyboxError, messageOf, pathReasonOf } from "../common/errors.ts";
import type { Config } from "./options.ts";
import { readServersFile } from "./servers-file.ts";

/** Problems of the files that a configuration names, which may be incomplete. */
export function findPathProblems(config: Partial<Config>): string[] {
  const problems: string[] = [];
  const check = (action: () => void) => {
    try {
      action();
    } catch (error) {
      problems.push(error instanceof IpyboxError ? error.message : messageOf(error));
    }
  };
  if (config.envFile !== undefined) check(() => assertReadable("--env-file", config.envFile ?? ""));
  if (config.requirements !== undefined) check(() => assertRegularFile("--requirements", config.requirements ?? ""));
  if (config.mcpConfig !== undefined) check(() => readServersFile(config.mcpConfig ?? ""));
  return problems;
}

function assertReadable(option: string, path: string): void {
  try {
    accessSync(resolve(path), constants.R_OK);
  } catch (error) {
    throw new Error(`${option}: ${path}: ${pathReasonOf(error)}`, { cause: error });
  }
}

/** Reading a pipe that nobody writes to would hold the build, and with it the end of the server. */
function assertRegularFile(option: string, path: string): void {
  assertReadable(option, path);
  if (!statSync(resolve(path)).isFile()) throw new Error(`${option}: ${path}: it is no regular file`);
}
