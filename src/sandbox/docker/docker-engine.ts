import { currentProcess, formatIdentity } from "../../common/process-identity.ts";
import { remembered } from "../../common/remembered.ts";
import { checkLink } from "../checks.ts";
import type {
  AdministeredEngine,
  DiagnosedWorkspace,
  Diagnosis,
  EngineOptions,
  PruneReport,
  SandboxListing,
} from "../engine-admin.ts";
import type {
  LaunchOptions,
  PrepareOptions,
  Sandbox,
  SandboxSpec,
  Scratch,
  TaskOptions,
  TaskResult,
  TaskSpec,
} from "../engine.ts";
import { Launcher, type SandboxPlan, type StartedSandbox } from "../launcher.ts";
import { execLink } from "../link/exec-link.ts";
import { RunRoot } from "../link/run-directory.ts";
import { socketLink } from "../link/socket-link.ts";
import { SharedPreparation } from "../shared-preparation.ts";
import { bootstrapTag } from "./base-image.ts";
import { createDockerClient, type DockerClient } from "./client.ts";
import { diagnoseDocker } from "./diagnosis.ts";
import { type EngineTraits, type InsideUser, limitsWithoutEffect, readTraits, userInside } from "./dialect.ts";
import { EngineNote } from "./engine-note.ts";
import { listSandboxes, pruneEngine, removeOrphans } from "./inventory.ts";
import type { SandboxLimits } from "./isolation.ts";
import { ensureKernelImage, type KernelImageOptions, kernelImageTag, userLabel } from "./kernel-image.ts";
import { LABEL, newScratchVolume, packageVolume } from "./labels.ts";
import { LinkChoice, type LinkName } from "./link-choice.ts";
import { findOwnMounts } from "./own-container.ts";
import { startSandbox } from "./start-sandbox.ts";
import { sweepAfterDeath } from "./sweep-after-death.ts";
import { toEngineSpec, WorkspacePlaces } from "./workspace-place.ts";

export interface DockerEngineOptions extends EngineOptions, KernelImageOptions {
  readonly limits: SandboxLimits;
  /** OCI runtime; the engine's default if absent. */
  readonly runtime?: string | undefined;
  readonly gpus?: number | "all" | undefined;
  readonly link: LinkName | "auto";
  /** Whether the engine shares this host's files; found out by trying if absent. */
  readonly sharesFiles?: boolean | undefined;
}

/** Sandboxes in containers of a Docker Engine. */
export class DockerEngine implements AdministeredEngine {
  readonly foundation = "kernel image";
  readonly #options: DockerEngineOptions;
  readonly #client: DockerClient;
  readonly #runRoot: RunRoot;
  readonly #emptyFileNote: EngineNote;
  readonly #link: LinkChoice;
  readonly #image: SharedPreparation<string>;
  readonly #places: WorkspacePlaces;
  readonly #launcher: Launcher;
  readonly #self = currentProcess();
  readonly #traits = remembered(() => this.#readTraits());
  readonly #ownMounts = remembered(() => findOwnMounts(this.#client));

  constructor(options: DockerEngineOptions) {
    const { env, stateDir, logger } = options;
    this.#options = options;
    this.#client = createDockerClient(env);
    this.#runRoot = new RunRoot(options.runtimeDir, sweepAfterDeath(env));
    const { address } = this.#client;
    this.#emptyFileNote = new EngineNote({ stateDir, kind: "empty-files", key: address, logger });
    this.#link = new LinkChoice({
      setting: options.link,
      links: [socketLink, execLink],
      note: new EngineNote({ stateDir, kind: "links", key: `${address} ${options.runtime ?? ""}`, logger }),
      logger,
    });
    this.#image = new SharedPreparation(async (prepare) =>
      ensureKernelImage(this.#client, await this.#toImageOptions(), prepare),
    );
    this.#places = new WorkspacePlaces({
      sharesFiles: options.sharesFiles,
      findOwnMounts: this.#ownMounts,
      userInside: () => this.#userInside(),
      logger,
    });
    this.#launcher = new Launcher({ start: (plan, signal) => this.#start(plan, signal), logger });
  }

  async prepare(options: PrepareOptions): Promise<void> {
    await this.buildImage(options);
  }

  buildImage(options: PrepareOptions): Promise<string> {
    return this.#image.join({ ...options, signal: AbortSignal.any([options.signal, this.#launcher.closing]) });
  }

  launch(spec: SandboxSpec, options: LaunchOptions): Promise<Sandbox> {
    return this.#places.launch(spec, (inside) => this.#launcher.launch(spec, options, inside));
  }

  openScratch({ sessionId }: SandboxSpec): Promise<Scratch> {
    return this.#launcher.openScratch(async () => {
      const name = newScratchVolume(sessionId);
      const labels = { [LABEL.owner]: formatIdentity(this.#self) };
      await this.#client.ask(this.#client.api.createVolume({ Name: name, Labels: labels }));
      return { name, [Symbol.asyncDispose]: () => this.#client.find(this.#client.api.removeVolume(name)) };
    });
  }

  async runTask(spec: TaskSpec, options: TaskOptions): Promise<TaskResult> {
    return await this.#launcher.runTask(spec, options, await this.#places.ofTask(spec));
  }

  async reapOrphans(): Promise<number> {
    const removed = await removeOrphans(this.#client);
    if (removed.length > 0) this.#options.logger.info("removed sandboxes whose owner is dead", { sandboxes: removed });
    return removed.length;
  }

  listSandboxes(): Promise<readonly SandboxListing[]> {
    return listSandboxes(this.#client);
  }

  async prune({ all }: { readonly all: boolean }): Promise<PruneReport> {
    const { baseImage: reference, imagesDir, env } = this.#options;
    const base = await bootstrapTag({ reference, imagesDir, env });
    const imageOptions = await this.#toImageOptions();
    const kernel = await kernelImageTag(imageOptions);
    return await pruneEngine(this.#client, {
      all,
      currentImages: base === undefined ? [kernel] : [kernel, base],
      userLabel: userLabel(imageOptions),
      machine: this.#self.machine,
    });
  }

  diagnose(workspace: DiagnosedWorkspace | undefined): Promise<readonly Diagnosis[]> {
    return diagnoseDocker(this.#client, {
      ...this.#options,
      checkLink: () => checkLink(this, workspace, this.#launcher.closing),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#launcher[Symbol.asyncDispose]();
    await this.#runRoot[Symbol.asyncDispose]();
  }

  async #start(plan: SandboxPlan, signal: AbortSignal): Promise<StartedSandbox> {
    const ownMounts = await this.#ownMounts();
    const spec = toEngineSpec(plan, { ownMounts, machine: this.#self.machine });
    const [image, traits, user] = await Promise.all([
      this.buildImage({ signal, onProgress: () => undefined }),
      this.#traits(),
      this.#userInside(),
      this.#makePackageVolume(spec),
    ]);
    const { uid, gid, limits, runtime, gpus, logger } = this.#options;
    const owner = formatIdentity(this.#self);
    const container = { image, owner, ...user, limits, traits, runtime, gpus, ownMounts };
    const common = {
      client: this.#client,
      runRoot: this.#runRoot,
      owner: { uid, gid },
      container,
      emptyFileNote: this.#emptyFileNote,
      signal,
      logger,
    };
    return await this.#link.start((link) => startSandbox({ ...plan, spec }, { ...common, link }));
  }

  /** Creating a volume that exists is no error, so two servers may do this at once. */
  async #makePackageVolume({ workspace: { key, path } }: SandboxSpec): Promise<void> {
    const labels = { [LABEL.workspace]: path, [LABEL.machine]: this.#self.machine };
    await this.#client.ask(this.#client.api.createVolume({ Name: packageVolume(key), Labels: labels }));
  }

  /** A limit that the engine does not apply is said when it is first asked. */
  async #readTraits(): Promise<EngineTraits> {
    const traits = await readTraits(this.#client);
    const problems = limitsWithoutEffect(traits);
    if (problems.length > 0) this.#options.logger.warn("limits have no effect", { problems });
    return traits;
  }

  async #userInside(): Promise<InsideUser> {
    return userInside(await this.#traits(), this.#options);
  }

  /** The image's user is the one that cells run as. */
  async #toImageOptions(): Promise<KernelImageOptions> {
    return { ...this.#options, ...(await this.#userInside()) };
  }
}
