import { randomBytes } from "node:crypto";
import { chown, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { IpyboxError } from "../../common/errors.ts";
import { ReleaseStack } from "../../common/lifecycle.ts";
import type { Logger } from "../../common/logger.ts";
import { currentProcess, formatIdentity } from "../../common/process-identity.ts";
import { within } from "../../common/time.ts";
import type { AdministeredEngine, Diagnosis, PruneReport, SandboxListing } from "../engine-admin.ts";
import type {
  LaunchOptions,
  PrepareOptions,
  Sandbox,
  SandboxSpec,
  TaskOptions,
  TaskResult,
  TaskSpec,
} from "../engine.ts";
import type { SandboxMission } from "../link/control-connection.ts";
import { GatewayDock } from "../link/gateway-dock.ts";
import { removeRunDirectory, RunRoot } from "../link/run-directory.ts";
import { listenOn } from "../link/socket.ts";
import { orAborted } from "../or-aborted.ts";
import { bootstrapTag } from "./base-image.ts";
import { createDockerClient, type DockerClient } from "./client.ts";
import { startContainer, type StartedContainer } from "./container.ts";
import { diagnoseDocker } from "./diagnosis.ts";
import { listSandboxes, pruneEngine, removeOrphans } from "./inventory.ts";
import { type SandboxLimits, toCreateOptions } from "./isolation.ts";
import { ensureKernelImage, type KernelImageOptions, kernelImageTag, userLabel } from "./kernel-image.ts";
import { LABEL, packageVolume, type SandboxRole } from "./labels.ts";
import { LogTail } from "../log-tail.ts";
import { toShieldedPlaces, workspacePathInside } from "./mounts.ts";
import { untilReady } from "../readiness.ts";
import { sweepAfterDeath } from "./sweep-after-death.ts";
import { SharedPreparation } from "../shared-preparation.ts";

export interface DockerEngineOptions extends Omit<KernelImageOptions, "env"> {
  readonly limits: SandboxLimits;
  /** OCI runtime; the engine's default if absent. */
  readonly runtime?: string | undefined;
  readonly gpus?: number | "all" | undefined;
  /** Where run directories are made, instead of `$XDG_RUNTIME_DIR/ipybox` or a temporary directory. */
  readonly runtimeDir?: string | undefined;
  readonly logger: Logger;
  /** Where to look for the engine, proxies and certificates; this process' environment if absent. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** What remains in a task's control connection once its container is gone. */
const DRAIN_TIMEOUT_MS = 2000;
/** In the run directory; docs/architecture.md, "egress.sock". */
const CA_BUNDLE = "ca.pem";
const KEPT_LOG_CHARS = 64 * 1024;

/** Sandboxes in containers of a Docker Engine that shares this host's file system, linked by unix sockets. */
export class DockerEngine implements AdministeredEngine {
  readonly name = "docker";
  readonly #options: DockerEngineOptions;
  readonly #imageOptions: KernelImageOptions;
  readonly #client: DockerClient;
  readonly #runRoot: RunRoot;
  readonly #image: SharedPreparation<string>;
  readonly #self = currentProcess();
  readonly #closing = new AbortController();
  /** What has to be gone before this engine is: launches that unwind, and sandboxes. */
  readonly #launches = new Set<Promise<unknown>>();
  readonly #running = new Set<AsyncDisposable>();
  #engineCpus: number | undefined;

  constructor(options: DockerEngineOptions) {
    const env = options.env ?? process.env;
    this.#options = options;
    this.#imageOptions = { ...options, env };
    this.#client = createDockerClient(env);
    this.#runRoot = new RunRoot(options.runtimeDir, sweepAfterDeath(env));
    this.#image = new SharedPreparation((prepare) => ensureKernelImage(this.#client, this.#imageOptions, prepare));
  }

  async prepare(options: PrepareOptions): Promise<void> {
    await this.buildImage(options);
  }

  buildImage(options: PrepareOptions): Promise<string> {
    return this.#image.join({ ...options, signal: AbortSignal.any([options.signal, this.#closing.signal]) });
  }

  async launch(spec: SandboxSpec, options: LaunchOptions): Promise<Sandbox> {
    const workspacePath = workspacePathInside(spec.workspace.path, this.#options.uid);
    const token = randomBytes(16).toString("hex");
    return await this.#track(options.signal, async (signal) => {
      const started = await this.#start(signal, {
        id: spec.sessionId,
        role: "session",
        spec,
        mission: { mode: "session", token, workspace: workspacePath, shields: this.#shieldsOf("session", spec) },
        sockets: { "tools.sock": options.onBridgeConnection, "egress.sock": options.egress?.onConnection },
        caBundle: options.egress?.caBundle,
        onOutput: () => undefined,
      });
      try {
        await untilReady(started.dock.ready, { exited: started.container.exited, log: started.log }, signal);
      } catch (error) {
        await this.#undo(started);
        throw error;
      }
      // Whoever ended it, what was made for it goes with it.
      void started.container.exited.then(() => this.#undo(started));
      return {
        id: spec.sessionId,
        workspacePath,
        connectGateway: (connect) => started.dock.connectGateway(connect),
        exited: started.container.exited,
        pause: () => started.container.pause(),
        tailLogs: (lines) => Promise.resolve(started.log.lines(lines)),
        [Symbol.asyncDispose]: () => started[Symbol.asyncDispose](),
      };
    });
  }

  async runTask(spec: TaskSpec, options: TaskOptions): Promise<TaskResult> {
    return await this.#track(options.signal, async (signal) => {
      await using started = await this.#start(signal, {
        id: `${spec.sessionId}-${randomBytes(4).toString("hex")}`,
        role: "installer",
        spec,
        mission: { mode: "task", module: spec.module, args: spec.args, shields: this.#shieldsOf("installer", spec) },
        sockets: { "egress.sock": options.onEgressConnection },
        onOutput: options.onOutput,
      });
      const control = await untilReady(
        started.dock.control,
        { exited: started.container.exited, log: started.log },
        signal,
      );
      const exit = await orAborted(started.container.exited, signal);
      await within(DRAIN_TIMEOUT_MS, control.ended);
      return { code: control.exitCode ?? exit.code, outOfMemory: exit.outOfMemory };
    });
  }

  async reapOrphans(): Promise<number> {
    const removed = await removeOrphans(this.#client);
    if (removed.length > 0) this.#options.logger.info("removed sandboxes whose owner is dead", { sandboxes: removed });
    return removed.length;
  }

  listSandboxes(): Promise<readonly SandboxListing[]> {
    return listSandboxes(this.#client);
  }

  async prune(options: { readonly all: boolean }): Promise<PruneReport> {
    const { baseImage: reference, imagesDir } = this.#options;
    const base = await bootstrapTag({ reference, imagesDir, env: this.#imageOptions.env });
    const kernel = await kernelImageTag(this.#imageOptions);
    return await pruneEngine(this.#client, {
      all: options.all,
      currentImages: base === undefined ? [kernel] : [kernel, base],
      userLabel: userLabel(this.#options),
      machine: this.#self.machine,
    });
  }

  diagnose(): Promise<readonly Diagnosis[]> {
    return diagnoseDocker(this.#client, {
      ...this.#imageOptions,
      limits: this.#options.limits,
      trySandbox: () => this.#trySandbox(),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new IpyboxError("sandbox-gone", "The engine is shutting down"));
    await Promise.allSettled(this.#launches);
    await Promise.allSettled([...this.#running].map((started) => started[Symbol.asyncDispose]()));
    await this.#runRoot[Symbol.asyncDispose]();
  }

  /** Runs a launch under the caller's signal and our own end, and remembers it until it is over. */
  async #track<T>(callerSignal: AbortSignal, launch: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = AbortSignal.any([callerSignal, this.#closing.signal]);
    signal.throwIfAborted();
    const running = launch(signal);
    this.#launches.add(running);
    try {
      return await running;
    } finally {
      this.#launches.delete(running);
    }
  }

  /** Run directory and sockets, then the container. A failure leaves nothing behind; the first error is thrown. */
  async #start(signal: AbortSignal, plan: StartPlan): Promise<Started> {
    await assertWorkspace(plan.spec.workspace.path);
    const [image, engineCpus] = await Promise.all([
      this.buildImage({ signal, onProgress: () => undefined }),
      this.#countCpus(),
      this.#makePackageVolume(plan.spec),
    ]);
    const { uid, gid, logger } = this.#options;
    const log = new LogTail(KEPT_LOG_CHARS);
    const stack = new ReleaseStack();
    try {
      const runDirectory = await this.#runRoot.make(plan.id, { uid, gid });
      stack.defer(() => removeRunDirectory(runDirectory));
      const emptyFile = join(runDirectory, "empty");
      await writeFile(emptyFile, "", { mode: 0o444 });
      if (plan.caBundle) await writeFile(join(runDirectory, CA_BUNDLE), plan.caBundle, { mode: 0o444 });
      const dock = new GatewayDock({
        mission: plan.mission,
        onLog: (text) => log.append(text.endsWith("\n") ? text : `${text}\n`),
        onOutput: plan.onOutput,
        logger: logger.child({ sandbox: plan.id }),
      });
      stack.use(dock);
      const listen = { directory: runDirectory, uid, gid };
      stack.use(await listenOn({ ...listen, name: "gateway.sock", onConnection: (stream) => dock.accept(stream) }));
      for (const name of ["tools.sock", "egress.sock"] as const) {
        const onConnection = plan.sockets[name];
        if (onConnection) stack.use(await listenOn({ ...listen, name, onConnection }));
      }
      signal.throwIfAborted();
      const create = toCreateOptions({
        ...this.#options,
        id: plan.id,
        sessionId: plan.spec.sessionId,
        role: plan.role,
        image,
        owner: formatIdentity(this.#self),
        workspace: plan.spec.workspace,
        extraMounts: plan.spec.mounts,
        runDirectory,
        emptyFile,
        engineCpus,
        runtime: this.#options.runtime,
        gpus: this.#options.gpus,
      });
      const container = stack.use(await startContainer(this.#client, create, { signal, log, logger }));
      void dock.control.then((control) => control.ended).then(() => container.assumeGone());
      const started: Started = {
        container,
        dock,
        log,
        [Symbol.asyncDispose]: async () => {
          await stack[Symbol.asyncDispose]();
          this.#running.delete(started);
        },
      };
      this.#running.add(started);
      return started;
    } catch (error) {
      await this.#undo(stack);
      throw error;
    }
  }

  /** A sandbox over an empty workspace, of which nothing is left. */
  async #trySandbox(): Promise<void> {
    const { uid, gid } = this.#options;
    await using stack = new ReleaseStack();
    const path = await mkdtemp(join(tmpdir(), "ipybox-doctor-"));
    stack.defer(() => rm(path, { recursive: true, force: true }));
    if (process.geteuid?.() === 0) await chown(path, uid, gid);
    const id = randomBytes(8).toString("hex");
    stack.defer(() => this.#client.find(this.#client.api.getVolume(packageVolume(id)).remove()));
    const spec = { sessionId: id, workspace: { path, key: id, masked: [], protected: [] }, mounts: [] };
    const signal = this.#closing.signal;
    const sandbox = await this.launch(spec, { signal, onBridgeConnection: (stream) => stream.destroy() });
    await sandbox[Symbol.asyncDispose]();
  }

  #shieldsOf(role: SandboxRole, { workspace, mounts }: SandboxSpec) {
    return toShieldedPlaces({ role, workspace, extra: mounts, uid: this.#options.uid });
  }

  /** Creating a volume that exists is no error, so two servers may do this at once. */
  async #makePackageVolume(spec: SandboxSpec): Promise<void> {
    const { key, path } = spec.workspace;
    const labels = { [LABEL.workspace]: path, [LABEL.machine]: this.#self.machine };
    const volume = { Name: packageVolume(key), Labels: labels };
    await this.#client.ask(this.#client.api.createVolume(volume));
  }

  async #countCpus(): Promise<number> {
    if (this.#engineCpus !== undefined) return this.#engineCpus;
    const info: unknown = await this.#client.ask(this.#client.api.info());
    const count = typeof info === "object" && info !== null && "NCPU" in info ? info.NCPU : undefined;
    this.#engineCpus = typeof count === "number" && count > 0 ? count : Infinity;
    return this.#engineCpus;
  }

  async #undo(started: AsyncDisposable): Promise<void> {
    try {
      await started[Symbol.asyncDispose]();
    } catch (error) {
      this.#options.logger.warn("a sandbox could not be removed", { error });
    }
  }
}

interface StartPlan {
  readonly id: string;
  readonly role: SandboxRole;
  readonly spec: SandboxSpec;
  readonly mission: SandboxMission;
  /** Who serves the sockets besides `gateway.sock`. */
  readonly sockets: Partial<Record<"tools.sock" | "egress.sock", ((stream: Duplex) => void) | undefined>>;
  readonly caBundle?: string | undefined;
  readonly onOutput: (text: string) => void;
}

interface Started extends AsyncDisposable {
  readonly container: StartedContainer;
  readonly dock: GatewayDock;
  readonly log: LogTail;
}

async function assertWorkspace(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return;
  throw new IpyboxError("workspace-gone", `The workspace ${path} is not there any more`, {
    hint: "Make the directory again, or start ipybox with another --workspace.",
  });
}
