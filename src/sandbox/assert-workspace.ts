import { stat } from "node:fs/promises";
import { IpyboxError } from "../common/errors.ts";

/** Rejects with `workspace-gone` when the directory is not there any more. */
export async function assertWorkspace(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return;
  throw new IpyboxError("workspace-gone", `The workspace ${path} is not there any more`, {
    hint: "Make the directory again, or start ipybox with another --workspace.",
  });
}
