import type { Duplex } from "node:stream";

import { z } from "zod";

import { messageOf } from "../common/errors.ts";
import { ReleaseStack } from "../common/lifecycle.ts";
import type { Logger } from "../common/logger.ts";
import { within, withTimeout } from "../common/time.ts";
import { GatewayClient } from "../kernel/gateway-client.ts";
import type { KernelConnection } from "../kernel/kernel-connection.ts";
import type { Sandbox, SandboxEgress, SandboxEngine, SandboxExit, SandboxSpec } from "../sandbox/engine.ts";
import type { CopyWire, WorkspaceCopy } from "../workspace/copy/workspace-copy.ts";
import type { ShieldBreach, ShieldWatcher } from "../workspace/shield-watcher.ts";
import { noticesOfPull } from "./cell-notices.ts";
import { Kernels } from "./kernels.ts";

export interface LiveSandboxOptions {
  readonly engine: SandboxEngine;
  readonly spec: SandboxSpec;
  /** Read anew for every kernel, so that a change of the env file applies at reset. */
  readonly kernelEnvironment: () => Promise<Readonly<Record<string, string>>>;
  readonly onBridgeConnection: (stream: Duplex) => void;
  readonly egress: SandboxEgress | undefined;
  /** Of this sandbox alone, whose property it becomes. */
  readonly shields: ShieldWatcher;
  /** For an engine that does not share this host's files: fills the sandbox's copy of the workspace. */
  readonly openCopy: (wire: CopyWire, signal: AbortSignal) => Promise<WorkspaceCopy>;
  /** A mask does not hold any more: the sandbox is being paused; disposing it waits for that. */
  readonly onBreach: (breach: ShieldBreach) => void;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

const PULL_MS = 300_000;
const PAUSE_TIMEOUT_MS = 2_000;
const shrunkShape = z.object({ data: z.string() });

/** A sandbox with its gateway, the kernel that cells run in, and at most one spare kernel. */
export class LiveSandbox implements AsyncDisposable {
  readonly gateway: GatewayClient;
  readonly exited: Promise<SandboxExit>;
  readonly #sandbox: Sandbox;
  readonly #options: LiveSandboxOptions;
  readonly #stack: ReleaseStack;
  readonly #kernels: Kernels;
  #copy: WorkspaceCopy | undefined;
  #ended = false;
  #pausing: Promise<unknown> | undefined;

  private constructor(sandbox: Sandbox, gateway: GatewayClient, options: LiveSandboxOptions, stack: ReleaseStack) {
    this.#sandbox = sandbox;
    this.gateway = gateway;
    this.exited = sandbox.exited;
    this.#options = options;
    this.#stack = stack;
    const { kernelEnvironment: environment, signal, logger } = options;
    this.#kernels = new Kernels({ gateway, environment, signal, logger });
    void sandbox.exited.then((exit) => this.#end(exit));
    // A copy has nothing in it that a mask would have to cover.
    if (sandbox.workspaceCopied !== true) void options.shields.breached.then((breach) => this.#retire(breach));
  }

  /** Launches a sandbox and starts its first kernel; a failure leaves nothing behind. */
  static async open(options: LiveSandboxOptions): Promise<LiveSandbox> {
    await using stack = new ReleaseStack();
    const { engine, spec, signal, onBridgeConnection, egress, shields } = options;
    stack.use(shields);
    const sandbox = stack.use(await engine.launch(spec, { signal, onBridgeConnection, egress }));
    const gateway = stack.use(new GatewayClient((connectOptions) => sandbox.connectGateway(connectOptions)));
    const live = new LiveSandbox(sandbox, gateway, options, stack.move());
    try {
      if (sandbox.workspaceCopied === true)
        live.#copy = live.#stack.use(await options.openCopy(live.#copyWire(), signal));
      await live.#kernels.start();
      return live;
    } catch (error) {
      await live[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Undefined where the workspace is a copy, which nothing has to be covered in. */
  get shields(): ShieldWatcher | undefined {
    return this.#copy === undefined ? this.#options.shields : undefined;
  }

  /** Whether the sandbox is still there; its kernel may have died. */
  get usable(): boolean {
    const { current } = this.#kernels;
    return !this.#ended && current !== undefined && current.death?.type !== "sandbox-end";
  }

  get kernel(): KernelConnection {
    if (this.#kernels.current === undefined) throw new Error("the sandbox is not open yet");
    return this.#kernels.current;
  }

  /** Starts the spare kernel in the background, when there is none. */
  prepareSpare(): void {
    if (!this.#ended) this.#kernels.prepareSpare();
  }

  /** Puts a new kernel in the place of the present one, whose whole process tree is killed. Rejects when either fails. */
  async replaceKernel(): Promise<void> {
    await this.#kernels.replace(this.kernel);
  }

  /** Scales a PNG or JPEG down, in the sandbox: the host decodes no picture. Undefined when that fails or is aborted. */
  async shrinkPicture(data: Buffer, maxBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
    if (!this.usable) return undefined;
    try {
      const body = { data: data.toString("base64"), maxBytes };
      const answer = await this.gateway.post("/ipybox/shrink", body, signal);
      return Buffer.from(shrunkShape.parse(answer.body).data, "base64");
    } catch (error) {
      this.#options.logger.info("a picture could not be scaled down", { error: messageOf(error) });
      return undefined;
    }
  }

  /** Where the workspace is a copy, brings what changed on the host into it. */
  async pushFiles(signal: AbortSignal): Promise<void> {
    await this.#copy?.push(AbortSignal.any([signal, this.#options.signal]));
  }

  /**
   * Where the workspace is a copy, brings what changed in it to the host, for the last time if the sandbox is given up.
   * Never rejects; resolves to what there is to say.
   */
  async pullFiles(signal: AbortSignal, { isLast = false } = {}): Promise<string[]> {
    if (this.#copy === undefined) return [];
    if (!this.usable) return ["[The sandbox ended before the files that this cell changed were copied to the host]"];
    try {
      return noticesOfPull(await this.#copy.pull(withTimeout(PULL_MS, signal, this.#options.signal)));
    } catch (error) {
      this.#options.logger.warn("changes of the workspace's copy did not reach the host", { error: messageOf(error) });
      const rest = isLast ? "the others are lost with the sandbox" : "the next cell tries again";
      return [`[Not every file that this cell changed was copied to the host: ${rest}]`];
    }
  }

  /** Removes the sandbox and everything in it; running cells end as died. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#pausing; // the engine would first remove, then pause
    await this.#stack[Symbol.asyncDispose]();
  }

  tailLogs(lines: number): Promise<string> {
    return this.#sandbox.tailLogs(lines);
  }

  #copyWire(): CopyWire {
    return {
      changes: (request, signal) => this.gateway.download("/ipybox/copy/changes", request, signal),
      receive: (entries, applied, signal) =>
        this.gateway.upload(`/ipybox/copy/receive?applied=${applied}`, entries, signal),
    };
  }

  /** Nothing in it reads on, and what it might have seen is removed with it. */
  async #retire(breach: ShieldBreach): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const { logger, onBreach } = this.#options;
    this.#pausing = within(PAUSE_TIMEOUT_MS, this.#sandbox.pause()).catch((error: unknown) => {
      logger.warn("a sandbox could not be paused", { error: messageOf(error) });
    });
    logger.warn("the sandbox is paused and replaced: a path that it must not see", { ...breach });
    onBreach(breach);
    await this.#pausing;
    this.#end({ code: undefined, outOfMemory: false });
    await this[Symbol.asyncDispose]();
  }

  #end(exit: SandboxExit): void {
    this.#ended = true;
    this.#kernels.end(exit.outOfMemory ? { type: "out-of-memory" } : { type: "sandbox-end" });
  }
}
