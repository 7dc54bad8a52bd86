import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { SandboxSpec } from "../engine.ts";
import { startFromHostSide } from "../host-side.ts";
import type { SandboxPlan, StartedSandbox } from "../launcher.ts";
import type { Crossing, Link } from "../link/link.ts";
import type { RunDirectoryOwner, RunRoot } from "../link/run-directory.ts";
import { WorkspaceElsewhere } from "../link/workspace-elsewhere.ts";
import { untilReady } from "../readiness.ts";
import type { DockerClient } from "./client.ts";
import { startContainer } from "./container.ts";
import { emptyFileOnEngine } from "./empty-file.ts";
import type { EngineNote } from "./engine-note.ts";
import { type EngineWidePlan, toCreateOptions } from "./isolation.ts";
import { LABEL } from "./labels.ts";
import { LinkFailure } from "./link-choice.ts";
import type { MountedWorkspace } from "./mounts.ts";
import { enginePath, socketsNotShared, type OwnMount } from "./own-container.ts";

export interface StartOptions {
  readonly client: DockerClient;
  readonly link: Link;
  readonly runRoot: RunRoot;
  /** The user inside, as this host knows it. */
  readonly owner: RunDirectoryOwner;
  readonly container: EngineWidePlan;
  /** Of the empty file that the engine itself keeps. */
  readonly emptyFileNote: EngineNote;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/**
 * Starts the container and waits until init has connected. A failure is a {@link LinkFailure} where it is the link that
 * may be to blame.
 */
export function startSandbox(plan: SandboxPlan, options: StartOptions): Promise<StartedSandbox> {
  const { client, container, signal, logger } = options;
  const { spec, workVolume } = plan;
  return startFromHostSide(plan, options, async ({ dock, log, link: { crossing, carry } }, stack) => {
    signal.throwIfAborted();
    assertReachable(crossing, container.ownMounts);
    if (workVolume !== undefined && plan.role === "session") {
      const labels = { [LABEL.owner]: container.owner };
      await client.ask(client.api.createVolume({ Name: workVolume, Labels: labels }));
      stack.defer(() => client.find(client.api.removeVolume(workVolume)));
    }
    const create = toCreateOptions({
      ...container,
      mounted: await toMounted(plan, crossing, options),
      id: plan.id,
      sessionId: spec.sessionId,
      role: plan.role,
      workspace: spec.workspace,
      extraMounts: spec.mounts,
      storage: plan.storage,
      crossing,
    });
    const starting = startContainer(client, create, { signal, log, carry, logger });
    const started = stack.use(await starting.catch((error: unknown) => refused(error, crossing, spec)));
    const { exited } = started;
    const connected = untilReady(dock.control, { exited, log }, signal);
    const control = await connected.catch((error: unknown) => notConnected(error, signal));
    void control.ended.then(() => started.assumeGone());
    return { exited, pause: () => started.pause() };
  });
}

/** Our run directory may be one of a container of ours, which the engine does not see. */
function assertReachable(crossing: Crossing, ownMounts: readonly OwnMount[] | undefined): void {
  if (crossing.type !== "socket" || ownMounts === undefined) return;
  const { runDirectory } = crossing;
  if (enginePath(runDirectory, ownMounts) === undefined) throw new LinkFailure(socketsNotShared(runDirectory));
}

async function toMounted(
  { seesWorkspace, workVolume }: SandboxPlan,
  crossing: Crossing,
  options: StartOptions,
): Promise<MountedWorkspace> {
  if (!seesWorkspace) return { type: "nothing" };
  if (workVolume !== undefined) return { type: "copy", volume: workVolume };
  return { type: "host", emptyFile: await emptyFileFor(crossing, options) };
}

function emptyFileFor(crossing: Crossing, { client, container, emptyFileNote: note }: StartOptions) {
  return crossing.type === "socket" ? crossing.emptyFile : emptyFileOnEngine(client, { ...container, note });
}

/** The engine has no such directory, or does not share it with containers. */
function refused(error: unknown, crossing: Crossing, { workspace }: SandboxSpec): never {
  const message = messageOf(error);
  if (crossing.type === "socket" && message.includes(crossing.runDirectory)) throw new LinkFailure(error);
  if (!message.includes(`source path does not exist: ${workspace.path}`)) throw error;
  throw new WorkspaceElsewhere(workspace.path, error);
}

/** Init ended before it was connected: a socket may be there, and yet lead nowhere. */
function notConnected(error: unknown, signal: AbortSignal): never {
  signal.throwIfAborted();
  throw new LinkFailure(error);
}
