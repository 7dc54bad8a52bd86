import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { IpyboxError } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { assertWorkspace } from "../assert-workspace.ts";
import type { Sandbox, SandboxSpec, TaskSpec } from "../engine.ts";
import type { Inside, SandboxPlan } from "../launcher.ts";
import type { WorkspaceIdentity } from "../link/control-connection.ts";
import { WorkspaceElsewhere } from "../link/workspace-elsewhere.ts";
import type { InsideUser } from "./dialect.ts";
import { newWorkVolume, type SandboxRole } from "./labels.ts";
import { toShieldedPlaces, workspacePathInside } from "./mounts.ts";
import { enginePath, type OwnMount, toEngineWorkspace } from "./own-container.ts";

export interface WorkspacePlacesOptions {
  /** Whether the engine can mount this host's directories; found out by trying if absent. */
  readonly sharesFiles: boolean | undefined;
  readonly findOwnMounts: () => Promise<readonly OwnMount[] | undefined>;
  readonly userInside: () => Promise<InsideUser>;
  readonly logger: Logger;
}

/** How sandboxes get the workspace: mounted or, where the engine can't do that, copied to a volume of their session's. */
export class WorkspacePlaces {
  readonly #options: WorkspacePlacesOptions;
  /** By session, the volume that its sandbox works in. */
  readonly #volumes = new Map<string, string>();
  #shared: boolean | undefined;

  constructor(options: WorkspacePlacesOptions) {
    this.#options = options;
    this.#shared = options.sharesFiles;
  }

  /** Launches a session's sandbox over the workspace, or over a new volume. What the first one gets is remembered. */
  async launch(spec: SandboxSpec, launch: (inside: Inside) => Promise<Sandbox>): Promise<Sandbox> {
    const mounted = await this.#mounted("session", spec);
    if (this.#shared ?? (await this.#isVisible(spec))) {
      try {
        const sandbox = await launch({ ...mounted, identity: await identify(spec.workspace.path) });
        this.#shared = true;
        return sandbox;
      } catch (error) {
        if (this.#shared === true || !(error instanceof WorkspaceElsewhere)) throw error;
        this.#options.logger.info("the engine does not share this host's files: it works in a copy of the workspace");
      }
    }
    this.#shared = false;
    const { sessionId } = spec;
    const workVolume = newWorkVolume(sessionId);
    const sandbox = await launch({ ...mounted, shields: [], workVolume });
    this.#volumes.set(sessionId, workVolume);
    void sandbox.exited.then(() => this.#volumes.delete(sessionId));
    return sandbox;
  }

  /** What a task of the session gets: the same, if anything. */
  async ofTask(spec: TaskSpec): Promise<Inside> {
    const mounted = await this.#mounted("installer", spec);
    const workVolume = this.#volumes.get(spec.sessionId);
    if (workVolume !== undefined) return { ...mounted, shields: [], workVolume };
    return spec.seesWorkspace ? mounted : { ...mounted, shields: [] };
  }

  async #mounted(role: SandboxRole, { workspace, mounts }: SandboxSpec): Promise<Inside> {
    await assertWorkspace(workspace.path);
    const { uid } = await this.#options.userInside();
    return {
      workspacePath: workspacePathInside(workspace.path, uid),
      shields: toShieldedPlaces({ role, workspace, extra: mounts, uid }),
    };
  }

  async #isVisible({ workspace }: SandboxSpec): Promise<boolean> {
    const ownMounts = await this.#options.findOwnMounts();
    return ownMounts === undefined || enginePath(workspace.path, ownMounts) !== undefined;
  }
}

/** By what a sandbox tells whether the workspace that was mounted is the one of this host. */
async function identify(path: string): Promise<WorkspaceIdentity> {
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
  { spec, workVolume }: Pick<SandboxPlan, "spec" | "workVolume">,
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
