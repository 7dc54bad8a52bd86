import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { IpyboxError, messageOf, systemCodeOf } from "../common/errors.ts";

/**
 * The text of an env file; undefined when there is none. It may lie where cells write, so it must be a regular file of
 * at most 1 MiB, its last component no link, and reading never blocks. Rejects with `invalid-configuration`.
 */
export async function readEnvFile(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const info = await file.stat();
    if (!info.isFile()) throw new Error("it is no regular file");
    // One byte more than allowed tells a file that grows from one that fits.
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_BYTES + 1), 0, MAX_BYTES + 1, 0);
    if (bytesRead > MAX_BYTES) throw new Error("it is larger than 1 MiB");
    return buffer.toString("utf8", 0, bytesRead);
  } catch (error) {
    if (systemCodeOf(error) === "ENOENT") return undefined;
    const reason = systemCodeOf(error) === "ELOOP" ? "it is a link" : messageOf(error);
    throw new IpyboxError("invalid-configuration", `The env file ${path} can't be used: ${reason}`, {
      hint: "Make it a plain file, or name another one with --env-file",
      cause: error,
    });
  }
}

const MAX_BYTES = 1024 * 1024;
