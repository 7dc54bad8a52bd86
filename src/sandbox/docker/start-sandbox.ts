import type { Duplex } from "node:stream";
import { ReleaseStack } from "../../common/lifecycle.ts";
import type { Logger } from "../../common/logger.ts";
import type { SandboxSpec } from "../engine.ts";
import type { SandboxMission } from "../link/control-connection.ts";
import { GatewayDock } from "../link/gateway-dock.ts";
import { LogTail } from "../log-tail.ts";
import type { DockerClient } from "./client.ts";
import { startContainer, type StartedContainer } from "./container.ts";
import { type EngineWidePlan, toCreateOptions } from "./isolation.ts";
import type { SandboxRole } from "./labels.ts";
import type { Link } from "./link.ts";

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
  readonly dock: GatewayDock;
  readonly log: LogTail;
}

const KEPT_LOG_CHARS = 64 * 1024;

/** Opens the link, then starts the container. A failure leaves nothing behind; the first error is thrown. */
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
    const create = toCreateOptions({
      ...options.container,
      id: plan.id,
      sessionId: plan.spec.sessionId,
      role: plan.role,
      workspace: plan.spec.workspace,
      extraMounts: plan.spec.mounts,
      crossing: link.crossing,
    });
    const container = stack.use(await startContainer(client, create, { signal, log, logger }));
    void dock.control.then((control) => control.ended).then(() => container.assumeGone());
    return {
      exited: container.exited,
      pause: () => container.pause(),
      dock,
      log,
      [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
    };
  } catch (error) {
    await undo(stack, logger);
    throw error;
  }
}

/** Disposes what nobody is there any more to hear a failure of: it is logged. */
export async function undo(started: AsyncDisposable, logger: Logger): Promise<void> {
  try {
    await started[Symbol.asyncDispose]();
  } catch (error) {
    logger.warn("a sandbox could not be removed", { error });
  }
}
