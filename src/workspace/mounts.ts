import { realpath, stat } from "node:fs/promises";
import { posix, win32 } from "node:path";
import { IpyboxError, pathReasonOf } from "../common/errors.ts";
import { isWithin, refuseDangerousDirectory, type ForbiddenPlaces } from "./dangerous-directories.ts";

export interface Mount {
  readonly source: string;
  /** Absolute path in the sandbox. */
  readonly target: string;
  readonly readOnly: boolean;
}

/**
 * Splits `SRC[:DST][:rw]`: read-only and at its own path unless said otherwise. Pure; `cwd` is where relative sources
 * start. Where the host has no POSIX paths (`C:\data`), DST has to be given. Throws `invalid-configuration`.
 */
export function parseMount(text: string, cwd: string, platform: NodeJS.Platform = process.platform): Mount {
  const paths = platform === "win32" ? win32 : posix;
  const drive = platform === "win32" ? (/^(?:[\\/]{2}\?[\\/])?[A-Za-z]:(?=[\\/])/.exec(text)?.[0] ?? "") : "";
  const parts = text.slice(drive.length).split(":");
  const mode = parts.length > 1 && (parts.at(-1) === "rw" || parts.at(-1) === "ro") ? parts.pop() : "ro";
  const [source = "", target, ...rest] = parts;
  const absolute = paths.resolve(cwd, drive + source);
  const place = posix.normalize(target ?? absolute).replace(/(.)\/+$/, "$1");
  if (source === "" || rest.length > 0 || !posix.isAbsolute(place)) {
    throw new IpyboxError("invalid-configuration", `--mount '${text}' is not SRC[:DST][:rw]`, {
      hint: "DST must be an absolute path, e.g. --mount ../data:/data:rw",
    });
  }
  if (place === "/" || RESERVED_TARGETS.some((reserved) => place === reserved || place.startsWith(`${reserved}/`))) {
    throw new IpyboxError("invalid-configuration", `--mount '${text}': ${place} is taken in the sandbox`, {
      hint: "Give another place, e.g. --mount SRC:/data",
    });
  }
  return { source: absolute, target: place, readOnly: mode !== "rw" };
}

/** The mount with its source's links resolved; rejects with `invalid-workspace` for what may not be shared. */
export async function checkMount(mount: Mount, places: ForbiddenPlaces): Promise<Mount> {
  try {
    const source = await realpath(mount.source);
    if (!(await stat(source)).isDirectory()) throw new Error("it is no directory");
    await refuseDangerousDirectory(source, "mount", places);
    return { ...mount, source };
  } catch (error) {
    if (error instanceof IpyboxError) throw error;
    throw new IpyboxError("invalid-workspace", `${mount.source} can't be mounted: ${pathReasonOf(error)}`, {
      hint: "Give a directory of this host to --mount",
      cause: error,
    });
  }
}

/**
 * Throws `invalid-workspace`, with a line for each, when sources of mounts lie where cells can write: the engine looks
 * them up anew for each sandbox, and a cell could have put a link in the place of one.
 */
export function refuseReplaceableSources(mounts: readonly Mount[], workspace: string | undefined): void {
  const writable = mounts.filter(({ readOnly }) => !readOnly).map(({ source }) => source);
  if (workspace !== undefined) writable.unshift(workspace);
  const problems = mounts.flatMap(({ source }) => {
    const around = writable.find((directory) => source !== directory && isWithin(source, directory));
    return around === undefined ? [] : [`${source} can't be mounted: it lies in ${around}, where cells write`];
  });
  if (problems.length === 0) return;
  throw new IpyboxError("invalid-workspace", problems.join("\n"), {
    hint: "It is in the sandbox already; --protect makes a part of the workspace read-only",
  });
}

// Where the image, its tmpfs and our own mounts live.
const RESERVED_TARGETS = [
  ...["/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr"],
  ...["/opt/ipybox", "/home/ipybox", "/workspace"],
];
