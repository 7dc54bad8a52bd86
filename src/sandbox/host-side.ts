import type { Duplex } from "node:stream";
import { ReleaseStack } from "../common/lifecycle.ts";
import type { Logger } from "../common/logger.ts";
import { type SandboxPlan, type StartedSandbox, undo } from "./launcher.ts";
import { GatewayDock } from "./link/gateway-dock.ts";
import type { Link, OpenLink } from "./link/link.ts";
import { removeRunDirectory, type RunDirectoryOwner, type RunRoot } from "./link/run-directory.ts";
import { LogTail } from "./log-tail.ts";

/** What there is of a sandbox on this host before there is a sandbox: where its connections arrive, and its log. */
export interface HostSide {
  readonly runDirectory: string;
  readonly dock: GatewayDock;
  readonly link: OpenLink;
  readonly log: LogTail;
}

export interface HostSideOptions {
  readonly link: Link;
  readonly runRoot: RunRoot;
  /** The user inside, as this host knows it. */
  readonly owner: RunDirectoryOwner;
  readonly logger: Logger;
}

const KEPT_LOG_CHARS = 64 * 1024;

/**
 * Makes the host's side of a sandbox, then what `start` adds to it. Everything on the stack goes with the sandbox; a
 * failure leaves nothing behind, and the first error is thrown.
 */
export async function startFromHostSide(
  plan: SandboxPlan,
  options: HostSideOptions,
  start: (side: HostSide, stack: ReleaseStack) => Promise<Pick<StartedSandbox, "exited" | "pause">>,
): Promise<StartedSandbox> {
  const logger = options.logger.child({ sandbox: plan.id });
  const stack = new ReleaseStack();
  try {
    const side = await openHostSide(plan, { ...options, logger }, stack);
    const started = await start(side, stack);
    return { ...started, ...side, [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose]() };
  } catch (error) {
    await undo(stack, logger);
    throw error;
  }
}

async function openHostSide(
  plan: SandboxPlan,
  { link, runRoot, owner, logger }: HostSideOptions,
  stack: ReleaseStack,
): Promise<HostSide> {
  const runDirectory = await runRoot.make(plan.id, owner);
  stack.defer(() => removeRunDirectory(runDirectory));
  const log = new LogTail(KEPT_LOG_CHARS);
  const dock = stack.use(
    new GatewayDock({
      mission: plan.mission,
      onLog: (text) => log.append(text.endsWith("\n") ? text : `${text}\n`),
      onOutput: plan.onOutput,
      logger,
    }),
  );
  const services = {
    gateway: (stream: Duplex) => dock.accept(stream),
    tools: plan.onBridgeConnection,
    egress: plan.onEgressConnection,
  };
  return { runDirectory, dock, log, link: stack.use(await link.open({ runDirectory, owner, logger }, services)) };
}
