import type { Duplex } from "node:stream";

import PQueue from "p-queue";

import { BridgeServer, type CallToolResultLike, type ToolCall } from "../bridge/bridge-server.ts";
import type { ToolBroker } from "../broker/tool-broker.ts";
import type { UpstreamTool } from "../broker/tool-list.ts";
import { IpyboxError, messageOf } from "../common/errors.ts";
import type { ReleaseStack } from "../common/lifecycle.ts";
import type { Logger } from "../common/logger.ts";
import { withTimeout } from "../common/time.ts";
import type { InstallOptions as InstallerOptions, PackageInstaller } from "../packages/installer.ts";
import type { DiskSpace } from "../workspace/disk-space.ts";
import type { ShieldBreach } from "../workspace/shield-watcher.ts";
import { CellCalls } from "./cell-calls.ts";
import type { CellFiles } from "./cell-files.ts";
import { noticeOfLoss, noticesOfChanges, noticesOfPictures } from "./cell-notices.ts";
import type { CellResult } from "./cell-result.ts";
import type { LiveSandbox } from "./live-sandbox.ts";
import { type RegisteredServer, type RegistrationOptions, ServerRegistrar } from "./register-server.ts";
import { runCell } from "./run-cell.ts";
import type { StopReason } from "./stop-reason.ts";
import { SandboxKeeper, type WaitOptions } from "./sandbox-keeper.ts";

export type { Elicit, ElicitationAnswer, ElicitationRequest } from "../broker/elicitation.ts";

export interface SessionOptions {
  /** What `prepare` makes, for people. */
  readonly foundation: string;
  readonly prepare: (options: { signal: AbortSignal; onStep: (step: string) => void }) => Promise<void>;
  readonly openSandbox: (options: {
    signal: AbortSignal;
    onBridgeConnection: (stream: Duplex) => void;
    onBreach: (breach: ShieldBreach) => void;
  }) => Promise<LiveSandbox>;
  readonly broker: ToolBroker;
  readonly installer: PackageInstaller;
  /** State directory of the workspace. */
  readonly stateDir: string;
  readonly cellFiles: CellFiles;
  readonly readModule: (server: string, module: string) => Promise<string | undefined>;
  /** Undefined where there is no limit of a sandbox's own. */
  readonly memoryLimitBytes: number | undefined;
  /** Of the host's disk that holds the workspace. */
  readonly readDiskSpace: () => Promise<DiskSpace>;
  /** Hosts that code in a cell may install from besides the indexes. */
  readonly admitsHost: (host: string, port: number) => boolean;
  /** What was acquired for the session: released last. */
  readonly release: ReleaseStack;
  readonly logger: Logger;
}

export interface ExecuteOptions extends WaitOptions {
  readonly timeoutMs: number;
  /** Unicode characters of output in the result. */
  readonly maxOutputChars: number;
  readonly onText: (text: string) => void;
  /** What MCP servers say about calls of the cell that are under way. */
  readonly onToolProgress: (message: string) => void;
}

export interface InstallOptions extends WaitOptions {
  readonly onText: (text: string) => void;
}

/**
 * One client connection: one sandbox, one live kernel, the MCP servers of its workspace. The sandbox is opened in the
 * background and opened anew when it is gone; calls that change the kernel run one at a time, in order of arrival.
 */
export class Session implements AsyncDisposable {
  readonly #options: SessionOptions;
  readonly #queue = new PQueue({ concurrency: 1 });
  readonly #bridge: BridgeServer;
  readonly #keeper: SandboxKeeper;
  readonly #registrar: ServerRegistrar;
  readonly #closing = new AbortController();
  /** Of the cells that have not ended, in order of arrival. */
  readonly #stops: AbortController[] = [];
  /** The calls of the cell that runs. */
  #calls: CellCalls | undefined;
  /** Where the last cell ran. A cell that runs elsewhere without anybody's wish says so. */
  #used: LiveSandbox | undefined;
  /** Why the last sandbox was taken away, until an answer has said so. */
  #breach: ShieldBreach | undefined;

  constructor(options: SessionOptions) {
    const { broker, installer, logger } = options;
    this.#options = options;
    this.#bridge = new BridgeServer({
      logger,
      handlers: {
        callTool: (call, { signal }) => this.#callTool(call, signal),
        installPackage: (requirement, { signal }) =>
          installer.install(requirement, {
            signal,
            origin: "kernel",
            onProgress: () => undefined,
            admitsHost: options.admitsHost,
          }),
      },
    });
    this.#keeper = new SandboxKeeper({
      foundation: options.foundation,
      prepare: options.prepare,
      open: (signal) =>
        options.openSandbox({
          signal,
          onBridgeConnection: (stream) => this.#bridge.accept(stream),
          onBreach: (breach) => this.#onBreach(breach),
        }),
      logger,
    });
    this.#registrar = new ServerRegistrar({
      broker,
      stateDir: options.stateDir,
      sandbox: (wait) => this.#keeper.get(wait),
      logger,
    });
  }

  /** Begins to open the sandbox; calls wait for it. */
  start(): void {
    this.#keeper.start();
  }

  async executeCell(code: string, options: ExecuteOptions): Promise<CellResult> {
    const stop = new AbortController();
    this.#stops.push(stop);
    try {
      return await this.#inTurn(options, () => this.#execute(code, stop, options));
    } finally {
      this.#stops.splice(this.#stops.indexOf(stop), 1);
    }
  }

  /** A new kernel; a running cell is stopped first, and one whose turn it is, though it has not begun. */
  async reset(options: WaitOptions): Promise<void> {
    this.#stops[0]?.abort({ type: "reset" } satisfies StopReason);
    await this.#inTurn(options, async () => {
      const live = this.#keeper.live;
      this.#used = undefined;
      this.#breach = undefined;
      if (live === undefined) {
        await this.#keeper.get(options);
        return;
      }
      try {
        await live.replaceKernel();
      } catch (error) {
        this.#options.logger.warn("reset takes a new sandbox", { error: messageOf(error) });
        await this.#keeper.discard();
        await this.#keeper.get(options);
      }
    });
  }

  /** Connects an MCP server and generates its Python API. */
  registerServer(name: string, params: unknown, options: RegistrationOptions): Promise<RegisteredServer> {
    return this.#registrar.register(name, params, options);
  }

  /** A registered server announced other tools. */
  toolsChanged(server: string, tools: readonly UpstreamTool[]): void {
    void this.#registrar.toolsChanged(server, tools, this.#closing.signal);
  }

  async installPackage(requirement: string, options: InstallOptions): Promise<string> {
    await (await this.#keeper.get(options)).pushFiles(options.signal); // the installer may be asked for one of them
    const install: InstallerOptions = { signal: options.signal, origin: "user", onProgress: options.onText };
    return this.#options.installer.install(requirement, install);
  }

  readOutput(id: string): Promise<string | undefined> {
    return this.#options.cellFiles.readOutput(id);
  }

  readModule(server: string, module: string): Promise<string | undefined> {
    return this.#options.readModule(server, module);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new IpyboxError("sandbox-gone", "the server is shutting down"));
    this.#queue.clear();
    // Together: an upstream that is slow to end must not keep the sandbox.
    await Promise.allSettled([
      this.#keeper[Symbol.asyncDispose](),
      this.#bridge[Symbol.asyncDispose](),
      this.#options.broker[Symbol.asyncDispose](),
    ]);
    await this.#options.release[Symbol.asyncDispose]();
  }

  async #inTurn<T>(options: WaitOptions, action: () => Promise<T>): Promise<T> {
    const image = this.#keeper.awaitImage(options);
    const turn = this.#queue.add(async () => {
      await image;
      options.signal.throwIfAborted();
      this.#closing.signal.throwIfAborted();
      return action();
    });
    const [result] = await Promise.all([turn, image]); // a call that waited too long for the image needs no turn
    // Between calls nobody waits for the processor that the spare kernel's start takes.
    if (this.#queue.size === 0) this.#keeper.live?.prepareSpare();
    return result;
  }

  async #execute(code: string, stop: AbortController, options: ExecuteOptions): Promise<CellResult> {
    const { broker, logger, cellFiles, memoryLimitBytes, readDiskSpace } = this.#options;
    const calls = new CellCalls({ broker, timeoutMs: options.timeoutMs, onProgress: options.onToolProgress });
    this.#calls = calls;
    try {
      const { live, loss } = await this.#readyKernel(options);
      const startedAt = performance.now();
      const outcome = await runCell(live, code, {
        timeoutMs: options.timeoutMs,
        signal: AbortSignal.any([options.signal, stop.signal, this.#closing.signal]),
        onText: options.onText,
        onStop: () => calls.cancelAll(),
        memoryLimitBytes,
        readDiskSpace,
        logger,
      });
      const changed = noticesOfChanges((await live.shields?.changedInCell()) ?? []);
      const leisure = outcome.due ?? options.signal;
      const copied = await live.pullFiles(leisure, { isLast: outcome.sandboxLost });
      if (outcome.sandboxLost && live.shields?.breach === undefined) void this.#replaceSandbox();
      let shrinking: AbortSignal | undefined; // few cells show a picture that is too large
      const { text, truncation } = await cellFiles.fit(outcome.output.text, options.maxOutputChars);
      const { saved, leftOut } = await cellFiles.save(outcome.output.pictures, (data, maxBytes) =>
        live.shrinkPicture(data, maxBytes, (shrinking ??= withTimeout(SHRINK_MS, leisure))),
      );
      return {
        status: outcome.status,
        text,
        truncation,
        pictures: saved,
        notices: [...loss, ...outcome.notices, ...noticesOfPictures(saved, leftOut), ...changed, ...copied],
        durationMs: performance.now() - startedAt,
        executionCount: outcome.executionCount,
        stateKept: outcome.stateKept && loss.length === 0,
        toolCalls: calls.records,
      };
    } finally {
      this.#calls = undefined;
    }
  }

  /** A sandbox with a live kernel and masks that hold, and what happened to the one before, if anything was lost. */
  async #readyKernel(options: WaitOptions): Promise<{ live: LiveSandbox; loss: string[] }> {
    const present = this.#keeper.live;
    await present?.shields?.startCell();
    await this.#pushFiles(present, options.signal);
    const holding = this.#keeper.live;
    const died = holding?.kernel.death !== undefined;
    if (died) await holding.replaceKernel().catch(() => this.#keeper.discard());
    const live = await this.#keeper.get(options);
    if (live !== present) {
      await live.shields?.startCell();
      await live.pushFiles(options.signal); // opening it took a while
    }
    const used = this.#used;
    const breach = this.#breach;
    this.#used = live;
    this.#breach = undefined;
    if (used === undefined || (used === live && !died)) return { live, loss: [] };
    return { live, loss: [noticeOfLoss(used === live ? "The kernel died" : "The sandbox ended", breach)] };
  }

  /** A sandbox that does not take the host's files is given up. */
  async #pushFiles(live: LiveSandbox | undefined, signal: AbortSignal): Promise<void> {
    try {
      await live?.pushFiles(signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#options.logger.warn("the sandbox takes no files and is replaced", { error: messageOf(error) });
      await this.#keeper.discard();
    }
  }

  /**
   * The next cell gets a new sandbox, and its answer says why; so does that of a running one. It is not made before:
   * what replaces one file (`npm ci`, a checkout) soon replaces another.
   */
  #onBreach(breach: ShieldBreach): void {
    this.#breach ??= breach;
    void this.#keeper.discard();
  }

  async #replaceSandbox(): Promise<void> {
    this.#used = undefined; // the cell's own answer has said so
    await this.#keeper.discard();
    this.#keeper.start();
  }

  #callTool(call: ToolCall, signal: AbortSignal): Promise<CallToolResultLike> {
    if (this.#calls !== undefined) return this.#calls.call(call, signal);
    return this.#options.broker.call(call, { signal, timeoutMs: CALL_OUTSIDE_CELL_MS });
  }
}

/** A thread may call while no cell runs: it then has the default timeout of a cell. */
const CALL_OUTSIDE_CELL_MS = 120_000;
/** For scaling down all large pictures of a cell. */
const SHRINK_MS = 10_000;
