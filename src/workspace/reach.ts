import { realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** A user without capabilities, and in no group but their own. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** Of a file or directory, as `stat` tells them. */
export interface Permissions {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** Whether the user could read a file, change it, or put another one in its place. */
export async function isInReach(path: string, user: User): Promise<boolean> {
  const real = await realpath(path);
  const [file, ...directories] = await Promise.all([stat(real), ...ancestorsOf(real).map((place) => stat(place))]);
  return reaches(directories.reverse(), file, user);
}

/** {@link isInReach} of a file in the last of `directories`, of which each holds the next. */
export function reaches(directories: readonly Permissions[], file: Permissions, user: User): boolean {
  for (const directory of directories) {
    if (!may(user, directory, PASS)) return false;
    const keepsForeignFiles = (directory.mode & STICKY) !== 0 && directory.uid !== user.uid;
    if (may(user, directory, WRITE) && !keepsForeignFiles) return true;
  }
  return may(user, file, READ) || may(user, file, WRITE);
}

/** The owner of a file may give themselves what the mode does not. */
function may(user: User, { uid, gid, mode }: Permissions, right: number): boolean {
  if (uid === user.uid) return true;
  return ((gid === user.gid ? mode >> 3 : mode) & right) !== 0;
}

/** From the nearest one to the root. */
function ancestorsOf(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [] : [parent, ...ancestorsOf(parent)];
}

const [READ, WRITE, PASS] = [4, 2, 1];
const STICKY = 0o1000;
