import type { Duplex } from "node:stream";
import { messageOf } from "../../common/errors.ts";
import { ReleaseStack } from "../../common/lifecycle.ts";
import type { Logger } from "../../common/logger.ts";
import type { SandboxSpec } from "../engine.ts";
import { undo } from "../launcher.ts";
import type { ControlConnection, SandboxMission } from "../link/control-connection.ts";
import { GatewayDock } from "../link/gateway-dock.ts";
import { WorkspaceElsewhere } from "../link/workspace-elsewhere.ts";
import { LogTail } from "../log-tail.ts";
import { untilReady } from "../readiness.ts";
import type { DockerClient } from "./client.ts";
import { emptyFileOnEngine } from "./empty-file.ts";
import { startContainer, type StartedContainer } from "./container.ts";
import { type EngineWidePlan, toCreateOptions } from "./isolation.ts";
import { LABEL, type SandboxRole } from "./labels.ts";
import type { Crossing, Link } from "./link.ts";
import { LinkFailure, type LinkName } from "./link-choice.ts";
import { enginePath, notShared, type OwnMount } from "./own-container.ts";

/** What one sandbox is to be. */
export interface SandboxPlan {
  /** Unique on the engine. */
  readonly id: string;
  readonly role: SandboxRole;
  readonly spec: SandboxSpec;
  readonly mission: SandboxMission;
  readonly onBridgeConnection?: (stream: Duplex) => void;
  readonly onEgressConnection?: ((stream: Duplex) => void) | undefined;
  readonly onOutput: (text: string) => void;
  /** The volume with the copy of the workspace, where the engine does not have that itself. A session makes it. */
  readonly workVolume: string | undefined;
}

export interface StartOptions {
  readonly client: DockerClient;
  readonly link: Link;
  readonly container: EngineWidePlan;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** A container, and where its connections arrive. Disposing removes everything that was made for it. */
export interface StartedSandbox extends Pick<StartedContainer, "exited" | "pause">, AsyncDisposable {
  readonly control: ControlConnection;
  readonly dock: GatewayDock;
  readonly linkName: LinkName;
  readonly workVolume: string | undefined;
  readonly log: LogTail;
}

const KEPT_LOG_CHARS = 64 * 1024;

/**
 * Opens the link, starts the container and waits until init has connected. A failure leaves nothing behind; the first
 * error is thrown, as a {@link LinkFailure} where it is the link that may be to blame.
 */
export async function startSandbox(plan: SandboxPlan, options: StartOptions): Promise<StartedSandbox> {
  const { client, signal } = options;
  const logger = options.logger.child({ sandbox: plan.id });
  const log = new LogTail(KEPT_LOG_CHARS);
  const stack = new ReleaseStack();
  try {
    const dock = stack.use(
      new GatewayDock({
        mission: plan.mission,
        onLog: (text) => log.append(text.endsWith("\n") ? text : `${text}\n`),
        onOutput: plan.onOutput,
        logger,
      }),
    );
    const link = stack.use(
      await options.link.open(plan.id, {
        gateway: (stream) => dock.accept(stream),
        tools: plan.onBridgeConnection,
        egress: plan.onEgressConnection,
      }),
    );
    signal.throwIfAborted();
    assertReachable(link.crossing, options.container.ownMounts);
    const { workVolume } = plan;
    if (workVolume !== undefined && plan.role === "session") {
      const labels = { [LABEL.owner]: options.container.owner };
      await client.ask(client.api.createVolume({ Name: workVolume, Labels: labels }));
      stack.defer(() => client.find(client.api.removeVolume(workVolume)));
    }
    const create = toCreateOptions({
      ...options.container,
      mounted:
        workVolume === undefined
          ? { type: "host", emptyFile: await emptyFileFor(link.crossing, options) }
          : { type: "copy", volume: workVolume },
      id: plan.id,
      sessionId: plan.spec.sessionId,
      role: plan.role,
      workspace: plan.spec.workspace,
      extraMounts: plan.spec.mounts,
      crossing: link.crossing,
    });
    const starting = startContainer(client, create, { signal, log, carry: link.carry, logger });
    const container = stack.use(await starting.catch((error: unknown) => refused(error, link.crossing, plan.spec)));
    const { exited } = container;
    const connected = untilReady(dock.control, { exited, log }, signal);
    const control = await connected.catch((error: unknown) => notConnected(error, signal));
    void control.ended.then(() => container.assumeGone());
    return {
      exited,
      pause: () => container.pause(),
      control,
      dock,
      linkName: options.link.name,
      workVolume,
      log,
      [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
    };
  } catch (error) {
    await undo(stack, logger);
    throw error;
  }
}

/** Our run directory may be one of a container of ours, which the engine does not see. */
function assertReachable(crossing: Crossing, ownMounts: readonly OwnMount[] | undefined): void {
  if (crossing.type !== "socket" || ownMounts === undefined) return;
  const { runDirectory } = crossing;
  if (enginePath(runDirectory, ownMounts) === undefined) throw new LinkFailure(notShared(runDirectory));
}

function emptyFileFor(crossing: Crossing, { client, container }: StartOptions): string | Promise<string> {
  return crossing.type === "socket" ? crossing.emptyFile : emptyFileOnEngine(client, container);
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
