import { dirname, relative } from "node:path";
import { IpyboxError, messageOf, systemCodeOf } from "../common/errors.ts";
import { descend, openFile, openRoot, splitRelative } from "./beneath.ts";
import { isWithin } from "./dangerous-directories.ts";

/**
 * The text of an env file; undefined when there is none. It may lie where cells write, so it must be a regular file of
 * at most 1 MiB, no link on its way below the workspace or its own directory, and reading never blocks. Both paths are
 * absolute, the workspace's and that of the file's directory without links; there may be no workspace. Rejects with `invalid-configuration`.
 */
export async function readEnvFile(path: string, workspace: string | undefined): Promise<string | undefined> {
  try {
    const base = workspace !== undefined && isWithin(path, workspace) ? workspace : dirname(path);
    const components = splitRelative(relative(base, path));
    const name = components.pop() ?? "";
    await using root = await openRoot(base);
    await using directory = await descend(root, components);
    await using file = (await openFile(directory, name)).file;
    // One byte more than allowed tells a file that grows from one that fits.
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_BYTES + 1), 0, MAX_BYTES + 1, 0);
    if (bytesRead > MAX_BYTES) throw new Error("it is larger than 1 MiB");
    const content = buffer.subarray(0, bytesRead);
    if (content.includes(0)) throw new Error("it is no UTF-8 text"); // but UTF-16, as PowerShell writes it
    return content.toString("utf8");
  } catch (error) {
    if (systemCodeOf(error) === "ENOENT") return undefined;
    const isOfWrongKind = error instanceof IpyboxError || systemCodeOf(error) === "ELOOP";
    const reason = isOfWrongKind ? "it is a link or no regular file" : messageOf(error);
    throw new IpyboxError("invalid-configuration", `The env file ${path} can't be used: ${reason}`, {
      hint: "Make it a plain file of UTF-8 text, or name another one with --env-file",
      cause: error,
    });
  }
}

const MAX_BYTES = 1024 * 1024;
