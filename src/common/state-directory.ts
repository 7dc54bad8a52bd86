import { mkdir } from "node:fs/promises";
import { IpyboxError, pathReasonOf } from "./errors.ts";

/** A directory in the state directory, for its owner only. Rejects with `state-unusable`. */
export async function makeStateDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw stateUnusable(error);
  }
}

export function stateUnusable(cause: unknown): IpyboxError {
  return new IpyboxError("state-unusable", `ipybox's state directory can't be written: ${pathReasonOf(cause)}`, {
    hint: "Set XDG_STATE_HOME to a directory that the user who runs ipybox may write, on a disk with space",
    cause,
  });
}
