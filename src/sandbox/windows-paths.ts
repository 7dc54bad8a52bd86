import { IpyboxError } from "../common/errors.ts";

// No such machine is among our tests: what Docker Desktop documents, in pure functions and tables.

/** Absolute paths of Windows: on a drive, on a share or in a WSL distribution. POSIX ones begin with a single slash. */
const WINDOWS = /^(?:[A-Za-z]:[\\/]|[\\/]{2}[^\\/])/;
const SHARE = /^[\\/]{2}/;
const WSL = /^[\\/]{2}wsl(?:\$|\.localhost)[\\/]/i;
/** `\\?\C:\x` and `\\?\UNC\server\x`: what programs write for paths of any length. */
const LONG = /^[\\/]{2}\?[\\/](UNC[\\/])?/i;

/**
 * A path of the host with slashes, so that one way of taking paths apart serves all platforms: `C:\Users\x` →
 * `C:/Users/x`. POSIX paths are left alone, backslashes in their names included.
 */
export function toSlashForm(path: string): string {
  return WINDOWS.test(path) ? withoutPrefix(path).replaceAll("\\", "/") : path;
}

/**
 * The source of a bind mount as Docker Desktop takes it from Windows: it translates drives and directories of WSL
 * distributions itself. POSIX paths are left alone.
 *
 * @throws IpyboxError `invalid-workspace` for a network share, which its virtual machine does not see.
 */
export function toBindSource(path: string): string {
  if (!WINDOWS.test(path)) return path;
  const short = withoutPrefix(path);
  if (SHARE.test(short) && !WSL.test(short)) {
    throw new IpyboxError("invalid-workspace", `${path} is on a network share, which Docker Desktop can't mount`, {
      hint: "Use a directory of a local drive or of a WSL distribution",
    });
  }
  return short.replaceAll("/", "\\");
}

function withoutPrefix(path: string): string {
  return path.replace(LONG, (_, share: string | undefined) => (share === undefined ? "" : "\\\\"));
}
