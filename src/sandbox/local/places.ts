import { chmod, chown, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/** As whom a sandbox runs. */
export interface SandboxUser {
  readonly uid: number;
  readonly gid: number;
}

/** The directories of one sandbox; they go with it. */
export interface Places {
  readonly directory: string;
  readonly home: string;
  readonly tmp: string;
  /** Connection files and ipc sockets of kernels. */
  readonly kernels: string;
}

/** Whether the server has to become another user to start a sandbox. */
export function isOther(user: SandboxUser): boolean {
  return user.uid !== process.geteuid?.() || user.gid !== process.getegid?.();
}

/** Beside the run directory, which holds the sockets alone. */
export async function makePlaces(runDirectory: string, user: SandboxUser): Promise<Places> {
  const directory = `${runDirectory}.d`;
  const [home, tmp, kernels] = [join(directory, "home"), join(directory, "tmp"), join(directory, "k")];
  if (isOther(user)) await chmod(dirname(runDirectory), 0o711); // its name is all that the user needs to know
  for (const path of [directory, home, tmp, kernels]) await makeOwned(path, user);
  return { directory, home, tmp, kernels };
}

/** A directory of the sandbox's user, which nobody else can read unless `mode` says otherwise. */
export async function makeOwned(path: string, user: SandboxUser, mode = 0o700): Promise<void> {
  await mkdir(path, { recursive: true, mode });
  if (isOther(user)) await chown(path, user.uid, user.gid);
}
