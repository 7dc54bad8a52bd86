import { accessSync, constants, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

import { IpyboxError, messageOf } from "../common/errors.ts";
import type { Config } from "./options.ts";
import { readServersFile } from "./servers-file.ts";

/** Problems of the paths in a configuration, which may be incomplete: what can be told before anything is started. */
export function findPathProblems(config: Partial<Config>): string[] {
  const problems: string[] = [];
  const check = (action: () => void) => {
    try {
      action();
    } catch (error) {
      problems.push(error instanceof IpyboxError ? error.message : messageOf(error));
    }
  };
  if (config.workspace !== undefined) check(() => assertDirectoryOrParent(resolve(config.workspace ?? "")));
  if (config.envFile !== undefined) check(() => assertReadable("--env-file", config.envFile ?? ""));
  if (config.requirements !== undefined) check(() => assertReadable("--requirements", config.requirements ?? ""));
  if (config.mcpConfig !== undefined) check(() => readServersFile(config.mcpConfig ?? ""));
  return problems;
}

function assertDirectoryOrParent(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found !== undefined && !found.isDirectory()) throw new Error(`--workspace: ${path} is no directory`);
  if (found === undefined && statSync(dirname(path), { throwIfNoEntry: false }) === undefined) {
    throw new Error(`--workspace: neither ${path} nor its parent exists`);
  }
}

function assertReadable(option: string, path: string): void {
  try {
    accessSync(resolve(path), constants.R_OK);
  } catch (error) {
    throw new Error(`${option}: ${messageOf(error)}`, { cause: error });
  }
}
