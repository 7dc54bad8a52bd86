import { randomBytes } from "node:crypto";
import { chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
import { assertWorkspace } from "../assert-workspace.ts";
import type { ShieldedPlace } from "../link/control-connection.ts";
import { RunRoot } from "../link/run-directory.ts";
import { orAborted } from "../or-aborted.ts";
import { untilReady } from "../readiness.ts";
import { SharedPreparation } from "../shared-preparation.ts";
import { bootstrapTag } from "./base-image.ts";
import { createDockerClient, type DockerClient } from "./client.ts";
import { diagnoseDocker } from "./diagnosis.ts";
import { type EngineTraits, limitsWithoutEffect, readTraits, userInside } from "./dialect.ts";
import { listSandboxes, pruneEngine, removeOrphans } from "./inventory.ts";
import type { SandboxLimits } from "./isolation.ts";
import { ExecLink } from "./exec-link.ts";
import { ensureKernelImage, type KernelImageOptions, kernelImageTag, userLabel } from "./kernel-image.ts";
import { LABEL, packageVolume, type SandboxRole } from "./labels.ts";
import { LinkChoice, type LinkName } from "./link-choice.ts";
import { toShieldedPlaces, workspacePathInside } from "./mounts.ts";
import { findOwnMounts, type OwnMount } from "./own-container.ts";
import { SocketLink } from "./socket-link.ts";
import { undo } from "../launcher.ts";
import { type SandboxPlan, type StartedSandbox, startSandbox } from "./start-sandbox.ts";
import { sweepAfterDeath } from "./sweep-after-death.ts";
import { FileSharing, identifyWorkspace, toEngineSpec } from "./workspace-place.ts";

export interface DockerEngineOptions extends Omit<KernelImageOptions, "env"> {
  readonly limits: SandboxLimits;
  /** OCI runtime; the engine's default if absent. */
  readonly runtime?: string | undefined;
  readonly gpus?: number | "all" | undefined;
  readonly link: LinkName | "auto";
  /** Where run directories are made, instead of `$XDG_RUNTIME_DIR/ipybox` or a temporary directory. */
  readonly runtimeDir?: string | undefined;
  /** Whether the engine shares this host's files; found out by trying if absent. */
  readonly sharesFiles?: boolean | undefined;
  readonly logger: Logger;
  /** Where to look for the engine, proxies and certificates; this process' environment if absent. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** What remains in a task's control connection once its container is gone. */
const DRAIN_TIMEOUT_MS = 2000;

/** Sandboxes in containers of a Docker Engine. */
export class DockerEngine implements AdministeredEngine {
  readonly name = "docker";
  readonly #options: DockerEngineOptions;
  readonly #imageOptions: KernelImageOptions;
  readonly #client: DockerClient;
  readonly #runRoot: RunRoot;
  readonly #link: LinkChoice;
  readonly #image: SharedPreparation<string>;
  readonly #self = currentProcess();
  readonly #closing = new AbortController();
  /** What has to be gone before this engine is: launches that unwind, and sandboxes. */
  readonly #launches = new Set<Promise<unknown>>();
  readonly #running = new Set<AsyncDisposable>();
  readonly #fileSharing: FileSharing;
  /** By session, the volume that its sandbox works in. */
  readonly #workVolumes = new Map<string, string>();
  #traits: Promise<EngineTraits> | undefined;
  #ownMounts: Promise<readonly OwnMount[] | undefined> | undefined;

  constructor(options: DockerEngineOptions) {
    const env = options.env ?? process.env;
    this.#options = options;
    this.#fileSharing = new FileSharing(options.sharesFiles, options.logger);
    this.#imageOptions = { ...options, env };
    this.#client = createDockerClient(env);
    this.#runRoot = new RunRoot(options.runtimeDir, sweepAfterDeath(env));
    this.#link = new LinkChoice({
      setting: options.link,
      links: [new SocketLink(this.#runRoot, options), new ExecLink(this.#runRoot, options.logger)],
      key: `${this.#client.address} ${options.runtime ?? ""}`,
      stateDir: options.stateDir,
      logger: options.logger,
    });
    this.#image = new SharedPreparation(async (prepare) =>
      ensureKernelImage(this.#client, await this.#toImageOptions(), prepare),
    );
  }

  async prepare(options: PrepareOptions): Promise<void> {
    await this.buildImage(options);
  }

  buildImage(options: PrepareOptions): Promise<string> {
    return this.#image.join({ ...options, signal: AbortSignal.any([options.signal, this.#closing.signal]) });
  }

  async launch(spec: SandboxSpec, options: LaunchOptions): Promise<Sandbox> {
    const started = await this.#track(options.signal, (signal) => this.#startSession(spec, { ...options, signal }));
    const { uid } = await this.#userInside();
    // Whoever ended it, what was made for it goes with it.
    void started.exited.then(() => undo(started, this.#options.logger));
    return {
      id: spec.sessionId,
      workspacePath: workspacePathInside(spec.workspace.path, uid),
      workspaceCopied: started.workVolume !== undefined,
      connectGateway: (connect) => started.dock.connectGateway(connect),
      exited: started.exited,
      pause: () => started.pause(),
      tailLogs: (lines) => Promise.resolve(started.log.lines(lines)),
      [Symbol.asyncDispose]: () => started[Symbol.asyncDispose](),
    };
  }

  async runTask(spec: TaskSpec, options: TaskOptions): Promise<TaskResult> {
    return await this.#track(options.signal, async (signal) => {
      const { uid } = await this.#userInside();
      const workVolume = this.#workVolumes.get(spec.sessionId);
      await using started = await this.#start(signal, {
        id: `${spec.sessionId}-${randomBytes(4).toString("hex")}`,
        role: "installer",
        spec,
        mission: {
          mode: "task",
          module: spec.module,
          args: spec.args,
          shields: workVolume === undefined ? shieldsOf("installer", spec, uid) : [],
        },
        workVolume,
        onEgressConnection: options.onEgressConnection,
        onOutput: options.onOutput,
      });
      const { control } = started;
      const exit = await orAborted(started.exited, signal);
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
    const imageOptions = await this.#toImageOptions();
    const kernel = await kernelImageTag(imageOptions);
    return await pruneEngine(this.#client, {
      all: options.all,
      currentImages: base === undefined ? [kernel] : [kernel, base],
      userLabel: userLabel(imageOptions),
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

  async #startSession(spec: SandboxSpec, options: LaunchOptions): Promise<StartedSandbox> {
    await assertWorkspace(spec.workspace.path);
    const ownMounts = await this.#findOwnMounts();
    return await this.#fileSharing.launch(spec, ownMounts, (workVolume) => this.#startIn(workVolume, spec, options));
  }

  async #startIn(workVolume: string | undefined, spec: SandboxSpec, options: LaunchOptions): Promise<StartedSandbox> {
    const { signal, egress, onBridgeConnection } = options;
    const { uid } = await this.#userInside();
    const started = await this.#start(signal, {
      id: spec.sessionId,
      role: "session",
      spec,
      mission: {
        mode: "session",
        token: randomBytes(16).toString("hex"),
        workspace: workspacePathInside(spec.workspace.path, uid),
        ...(workVolume === undefined
          ? { shields: shieldsOf("session", spec, uid), identity: await identifyWorkspace(spec.workspace.path) }
          : { shields: [] }),
        ...(egress && { egress: { caBundle: egress.caBundle } }),
      },
      workVolume,
      onBridgeConnection,
      onEgressConnection: egress?.onConnection,
      onOutput: () => undefined,
    });
    try {
      await untilReady(started.dock.ready, started, signal);
      return started;
    } catch (error) {
      await undo(started, this.#options.logger);
      throw error;
    }
  }

  async #start(signal: AbortSignal, given: SandboxPlan): Promise<StartedSandbox> {
    await assertWorkspace(given.spec.workspace.path);
    const ownMounts = await this.#findOwnMounts();
    const plan = { ...given, spec: toEngineSpec(given, { ownMounts, machine: this.#self.machine }) };
    const [image, traits, user] = await Promise.all([
      this.buildImage({ signal, onProgress: () => undefined }),
      this.#findTraits(),
      this.#userInside(),
      this.#makePackageVolume(plan.spec),
    ]);
    const { limits, runtime, gpus, logger } = this.#options;
    const owner = formatIdentity(this.#self);
    const container = { image, owner, ...user, limits, traits, runtime, gpus, ownMounts };
    const started = await this.#link.start((link) =>
      startSandbox(plan, { client: this.#client, link, container, signal, logger }),
    );
    const tracked: StartedSandbox = {
      ...started,
      [Symbol.asyncDispose]: async () => {
        if (plan.role === "session") this.#workVolumes.delete(plan.spec.sessionId);
        await started[Symbol.asyncDispose]();
        this.#running.delete(tracked);
      },
    };
    this.#running.add(tracked);
    if (plan.workVolume !== undefined) this.#workVolumes.set(plan.spec.sessionId, plan.workVolume);
    return tracked;
  }

  /** A sandbox over an empty workspace, of which nothing is left; resolves to the link that it had. */
  async #trySandbox(): Promise<LinkName> {
    const { uid, gid } = this.#options;
    await using stack = new ReleaseStack();
    const path = await mkdtemp(join(tmpdir(), "ipybox-doctor-"));
    stack.defer(() => rm(path, { recursive: true, force: true }));
    if (process.geteuid?.() === 0) await chown(path, uid, gid);
    const id = randomBytes(8).toString("hex");
    stack.defer(() => this.#client.find(this.#client.api.removeVolume(packageVolume(id))));
    const spec = { sessionId: id, workspace: { path, key: id, masked: [], protected: [] }, mounts: [] };
    await using started = await this.#track(this.#closing.signal, (signal) =>
      this.#startSession(spec, { signal, onBridgeConnection: (stream) => stream.destroy() }),
    );
    return started.linkName;
  }

  /** Creating a volume that exists is no error, so two servers may do this at once. */
  async #makePackageVolume(spec: SandboxSpec): Promise<void> {
    const { key, path } = spec.workspace;
    const labels = { [LABEL.workspace]: path, [LABEL.machine]: this.#self.machine };
    const volume = { Name: packageVolume(key), Labels: labels };
    await this.#client.ask(this.#client.api.createVolume(volume));
  }

  #findOwnMounts(): Promise<readonly OwnMount[] | undefined> {
    this.#ownMounts ??= findOwnMounts(this.#client).catch((error: unknown) => {
      this.#ownMounts = undefined;
      throw error;
    });
    return this.#ownMounts;
  }

  /** Asked once; a limit that the engine does not apply is said then. */
  #findTraits(): Promise<EngineTraits> {
    this.#traits ??= readTraits(this.#client).then(
      (traits) => {
        const problems = limitsWithoutEffect(traits);
        if (problems.length > 0) this.#options.logger.warn("limits have no effect", { problems });
        return traits;
      },
      (error: unknown) => {
        this.#traits = undefined;
        throw error;
      },
    );
    return this.#traits;
  }

  async #userInside(): Promise<{ uid: number; gid: number }> {
    return userInside(await this.#findTraits(), this.#options);
  }

  /** The image's user is the one that cells run as. */
  async #toImageOptions(): Promise<KernelImageOptions> {
    return { ...this.#imageOptions, ...(await this.#userInside()) };
  }
}

function shieldsOf(role: SandboxRole, { workspace, mounts }: SandboxSpec, uid: number): ShieldedPlace[] {
  return toShieldedPlaces({ role, workspace, extra: mounts, uid });
}
