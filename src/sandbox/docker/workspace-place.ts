import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { IpyboxError } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { SandboxSpec } from "../engine.ts";
import type { WorkspaceIdentity } from "../link/control-connection.ts";
import { WorkspaceElsewhere } from "../link/workspace-elsewhere.ts";
import { newWorkVolume } from "./labels.ts";
import { enginePath, type OwnMount, toEngineWorkspace } from "./own-container.ts";

/** Whether an engine can mount this host's directories: found out by trying, and remembered. */
export class FileSharing {
  readonly #logger: Logger;
  #shares: boolean | undefined;

  /** `shares` is what is known of the engine, if anything. */
  constructor(shares: boolean | undefined, logger: Logger) {
    this.#shares = shares;
    this.#logger = logger;
  }

  /** Launches a sandbox over the workspace itself or, where the engine does not have that, over a new volume. */
  async launch<T>(
    { sessionId, workspace }: SandboxSpec,
    ownMounts: readonly OwnMount[] | undefined,
    launch: (workVolume: string | undefined) => Promise<T>,
  ): Promise<T> {
    const visible = ownMounts === undefined || enginePath(workspace.path, ownMounts) !== undefined;
    if (this.#shares ?? visible) {
      try {
        const launched = await launch(undefined);
        this.#shares = true;
        return launched;
      } catch (error) {
        if (this.#shares === true || !(error instanceof WorkspaceElsewhere)) throw error;
        this.#logger.info("the engine does not share this host's files: it works in a copy of the workspace");
      }
    }
    this.#shares = false;
    return await launch(newWorkVolume(sessionId));
  }
}

/** By what a sandbox tells whether the workspace that was mounted is the one of this host. */
export async function identifyWorkspace(path: string): Promise<WorkspaceIdentity> {
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  const { dev, ino } = await stat(path, { bigint: true });
  return { boot: boot.trim(), directory: `${dev}:${ino}` };
}

/**
 * The workspace under the key that it has on the engine, which may serve many machines, and many containers, that have
 * theirs at the same path.
 *
 * @throws IpyboxError `invalid-configuration` for further mounts where there is only a copy.
 */
export function toEngineSpec(
  { spec, workVolume }: { readonly spec: SandboxSpec; readonly workVolume: string | undefined },
  place: { readonly machine: string; readonly ownMounts: readonly OwnMount[] | undefined },
): SandboxSpec {
  const { workspace, mounts } = spec;
  if (workVolume !== undefined) {
    if (mounts.length > 0) throw mountsNotShared();
    const key = createHash("sha256").update(`${place.machine}:${workspace.path}`).digest("hex").slice(0, 16);
    return { ...spec, workspace: { ...workspace, key } };
  }
  return place.ownMounts === undefined ? spec : { ...spec, workspace: toEngineWorkspace(workspace, place.ownMounts) };
}

function mountsNotShared(): IpyboxError {
  return new IpyboxError("invalid-configuration", "--mount needs an engine that shares this host's files", {
    hint: "Leave --mount out: this engine gets a copy of the workspace, and nothing else",
  });
}
