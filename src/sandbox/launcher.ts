import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { IpyboxError } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { within } from "../common/time.ts";
import type {
  LaunchOptions,
  Sandbox,
  SandboxExit,
  SandboxSpec,
  Scratch,
  TaskOptions,
  TaskResult,
  TaskSpec,
  TaskStorage,
} from "./engine.ts";
import type { SandboxMission, ShieldedPlace, WorkspaceIdentity } from "./link/control-connection.ts";
import type { GatewayDock } from "./link/gateway-dock.ts";
import type { OpenLink } from "./link/link.ts";
import type { LogTail } from "./log-tail.ts";
import { orAborted } from "../common/or-aborted.ts";
import { untilReady } from "./readiness.ts";

/** What one sandbox is to be. */
export interface SandboxPlan {
  /** Unique on this host. */
  readonly id: string;
  readonly role: "session" | "installer";
  readonly spec: SandboxSpec;
  readonly mission: SandboxMission;
  readonly seesWorkspace: boolean;
  /** Absent: nothing of it can be written. */
  readonly storage?: TaskStorage;
  /** See {@link Inside}. A session makes it. */
  readonly workVolume?: string | undefined;
  readonly onBridgeConnection?: (stream: Duplex) => void;
  readonly onEgressConnection?: ((stream: Duplex) => void) | undefined;
  readonly onOutput: (text: string) => void;
}

/** A started sandbox, and where its connections arrive. Disposing removes everything that was made for it. */
export interface StartedSandbox extends AsyncDisposable {
  readonly exited: Promise<SandboxExit>;
  readonly dock: GatewayDock;
  readonly link: OpenLink;
  readonly log: LogTail;
  pause(): Promise<void>;
}

/** How a sandbox sees the workspace. */
export interface Inside {
  readonly workspacePath: string;
  readonly shields: readonly ShieldedPlace[];
  /** What a session looks for there; absent where that can't be another directory. */
  readonly identity?: WorkspaceIdentity;
  /** The engine's volume with a copy of the workspace, where it can't have that itself. */
  readonly workVolume?: string;
}

export interface LauncherOptions {
  /** A failure leaves nothing behind. */
  readonly start: (plan: SandboxPlan, signal: AbortSignal) => Promise<StartedSandbox>;
  readonly logger: Logger;
}

/** What remains in a task's control connection once its sandbox is gone. */
const DRAIN_TIMEOUT_MS = 2000;
const CLEAN_UP_TIMEOUT_MS = 2000;

/** Makes sessions and tasks of what an engine can start. Nothing of them outlives it. */
export class Launcher implements AsyncDisposable {
  readonly #options: LauncherOptions;
  readonly #closing = new AbortController();
  readonly #starting = new Set<Promise<unknown>>();
  readonly #running = new Set<AsyncDisposable>();
  readonly #scratches = new Set<AsyncDisposable>();

  constructor(options: LauncherOptions) {
    this.#options = options;
  }

  /** Aborts with `sandbox-gone` when this is disposed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** See {@link SandboxEngine.launch}. */
  async launch(spec: SandboxSpec, options: LaunchOptions, inside: Inside): Promise<Sandbox> {
    const { workspacePath, shields, identity, workVolume } = inside;
    return await this.#track(options.signal, async (signal) => {
      const started = await this.#start(signal, {
        id: spec.sessionId,
        role: "session",
        spec,
        mission: {
          mode: "session",
          token: randomBytes(16).toString("hex"),
          workspace: workspacePath,
          shields,
          ...(identity && { identity }),
          ...(options.egress && { egress: { caBundle: options.egress.caBundle } }),
        },
        seesWorkspace: true,
        workVolume,
        onBridgeConnection: options.onBridgeConnection,
        onEgressConnection: options.egress?.onConnection,
        onOutput: () => undefined,
      });
      try {
        await untilReady(started.dock.ready, started, signal);
      } catch (error) {
        await undo(started, this.#options.logger);
        throw error;
      }
      // Whoever ended it, what was made for it goes with it.
      void started.exited.then(() => undo(started, this.#options.logger));
      return {
        id: spec.sessionId,
        workspacePath,
        workspaceCopied: workVolume !== undefined,
        link: started.link.crossing.type,
        connectGateway: (connect) => started.dock.connectGateway(connect),
        exited: started.exited,
        pause: () => started.pause(),
        tailLogs: (lines) => Promise.resolve(started.log.lines(lines)),
        [Symbol.asyncDispose]: () => started[Symbol.asyncDispose](),
      };
    });
  }

  /** What was made is remembered until it is removed; that this fails is logged. */
  async openScratch(make: () => Promise<Scratch>): Promise<Scratch> {
    return await this.#track(this.closing, async () => {
      const made = await make();
      let removing: Promise<void> | undefined;
      const scratch: Scratch = {
        name: made.name,
        [Symbol.asyncDispose]: () =>
          (removing ??= undo(made, this.#options.logger).finally(() => this.#scratches.delete(scratch))),
      };
      this.#scratches.add(scratch);
      return scratch;
    });
  }

  /** See {@link SandboxEngine.runTask}. */
  async runTask(spec: TaskSpec, options: TaskOptions, { shields, workVolume }: Inside): Promise<TaskResult> {
    return await this.#track(options.signal, async (signal) => {
      await using started = await this.#start(signal, {
        id: `${spec.sessionId}-${randomBytes(4).toString("hex")}`,
        role: "installer",
        spec,
        mission: { mode: "task", module: spec.module, args: spec.args, writes: spec.storage.writes, shields },
        seesWorkspace: spec.seesWorkspace,
        storage: spec.storage,
        workVolume,
        onEgressConnection: options.onEgressConnection,
        onOutput: options.onOutput,
      });
      const control = await untilReady(started.dock.control, started, signal);
      const exit = await orAborted(started.exited, signal).catch(async (error: unknown) => {
        control[Symbol.dispose](); // init removes what the task left, and ends
        await within(CLEAN_UP_TIMEOUT_MS, started.exited);
        throw error;
      });
      await within(DRAIN_TIMEOUT_MS, control.ended);
      return { code: control.exitCode ?? exit.code, outOfMemory: exit.outOfMemory };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new IpyboxError("sandbox-gone", "The engine is shutting down"));
    await Promise.allSettled(this.#starting);
    await Promise.allSettled([...this.#running].map((started) => started[Symbol.asyncDispose]()));
    await Promise.all([...this.#scratches].map((scratch) => scratch[Symbol.asyncDispose]())); // nobody uses them any more
  }

  /** Runs a launch under the caller's signal and our own end, and remembers it until it is over. */
  async #track<T>(callerSignal: AbortSignal, launch: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = AbortSignal.any([callerSignal, this.#closing.signal]);
    signal.throwIfAborted();
    const starting = launch(signal);
    this.#starting.add(starting);
    try {
      return await starting;
    } finally {
      this.#starting.delete(starting);
    }
  }

  async #start(signal: AbortSignal, plan: SandboxPlan): Promise<StartedSandbox> {
    const started = await this.#options.start(plan, signal);
    const tracked: StartedSandbox = {
      ...started,
      [Symbol.asyncDispose]: async () => {
        await started[Symbol.asyncDispose]();
        this.#running.delete(tracked);
      },
    };
    this.#running.add(tracked);
    return tracked;
  }
}

/** Disposes what nobody is there any more to hear a failure of: it is logged. */
export async function undo(started: AsyncDisposable, logger: Logger): Promise<void> {
  try {
    await started[Symbol.asyncDispose]();
  } catch (error) {
    logger.warn("a sandbox, or what was made for it, could not be removed", { error });
  }
}
