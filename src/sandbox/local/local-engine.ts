import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IpyboxError } from "../../common/errors.ts";
import { assertWorkspace } from "../assert-workspace.ts";
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
import { type Inside, Launcher, type SandboxPlan, type StartedSandbox } from "../launcher.ts";
import { RunRoot } from "../link/run-directory.ts";
import { SharedPreparation } from "../shared-preparation.ts";
import { type Confinement, NO_CONFINEMENT } from "./confinement.ts";
import { diagnose } from "./diagnosis.ts";
import { listSandboxes, notePackages, prune, removeOrphans } from "./inventory.ts";
import { makeOwned, type SandboxUser } from "./places.ts";
import {
  ensureEnvironment,
  withoutLinks,
  type EnvironmentOptions,
  environmentOf,
  isMade,
  type PythonEnvironment,
} from "./python-environment.ts";
import { SandboxRecords } from "./sandbox-records.ts";
import { makeScratch, removeScratches } from "./scratches.ts";
import { startSandbox } from "./start-sandbox.ts";
import { sweepAfterDeath } from "./sweep-after-death.ts";

export interface LocalEngineOptions extends EngineOptions, EnvironmentOptions {
  /** As whom sandboxes run; the server must be allowed to become that user. The server's own if absent. */
  readonly user?: SandboxUser | undefined;
  /** As whom packages are installed: sessions of another user only read them. That of the sandboxes if absent. */
  readonly installer?: SandboxUser | undefined;
  /** Sessions get no sockets but those of this machine (unix, netlink); installers need loopback TCP. */
  readonly noInet?: boolean | undefined;
  /** None if absent. */
  readonly confinement?: Confinement | undefined;
}

/** Paths of sockets may have 108 bytes, and the longest of ours adds 84 to this. */
const MAX_RUNTIME_DIR_BYTES = 24;

/** Sandboxes that are processes of this host, behind the walls of a confinement if there is one. */
export class LocalEngine implements AdministeredEngine {
  readonly foundation = "Python environment";
  readonly #confinement: Confinement;
  readonly #options: LocalEngineOptions;
  readonly #user: SandboxUser;
  readonly #installer: SandboxUser;
  readonly #runRoot: RunRoot;
  readonly #records: SandboxRecords;
  readonly #environment: SharedPreparation<PythonEnvironment>;
  readonly #launcher: Launcher;

  constructor(options: LocalEngineOptions) {
    this.#confinement = options.confinement ?? NO_CONFINEMENT;
    this.#options = options;
    this.#user = options.user ?? { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    this.#installer = options.installer ?? this.#user;
    this.#runRoot = new RunRoot(options.runtimeDir ?? shortTemporaryDirectory(), sweepAfterDeath(options));
    this.#records = new SandboxRecords(options.stateDir);
    this.#environment = new SharedPreparation((prepare) => this.#makeEnvironment(prepare));
    this.#launcher = new Launcher({ start: (plan, signal) => this.#start(plan, signal), logger: options.logger });
  }

  async prepare(options: PrepareOptions): Promise<void> {
    await this.#prepare(options);
  }

  async buildImage(options: PrepareOptions): Promise<string> {
    return (await this.#prepare(options)).directory;
  }

  launch(spec: SandboxSpec, options: LaunchOptions): Promise<Sandbox> {
    // Where cells reach the network themselves, a proxy for them would be one for everybody on this host.
    const egress = this.#confinement.ownNetwork ? options.egress : undefined;
    return this.#launcher.launch(spec, { ...options, egress }, insideOf(spec));
  }

  openScratch(): Promise<Scratch> {
    return this.#launcher.openScratch(() => makeScratch(this.#options.dataDir, this.#installer));
  }

  runTask(spec: TaskSpec, options: TaskOptions): Promise<TaskResult> {
    return this.#launcher.runTask(spec, options, insideOf(spec));
  }

  async reapOrphans(): Promise<number> {
    const removed = await removeOrphans(this.#records);
    await removeScratches(this.#options.dataDir, { all: false });
    if (removed.length > 0) this.#options.logger.info("removed sandboxes whose owner is dead", { sandboxes: removed });
    return removed.length;
  }

  listSandboxes(): Promise<readonly SandboxListing[]> {
    return listSandboxes(this.#records);
  }

  async prune({ all }: { readonly all: boolean }): Promise<PruneReport> {
    const { directory } = await environmentOf(this.#options);
    return await prune(this.#records, { all, dataDir: this.#options.dataDir, current: directory });
  }

  diagnose(workspace: DiagnosedWorkspace | undefined): Promise<readonly Diagnosis[]> {
    return diagnose({
      ...this.#options,
      walls: () => this.#confinement.diagnose(),
      checkLink: () => checkLink(this, workspace, this.#launcher.closing),
      signal: this.#launcher.closing,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#launcher[Symbol.asyncDispose]();
    await this.#runRoot[Symbol.asyncDispose]();
  }

  #prepare(options: PrepareOptions): Promise<PythonEnvironment> {
    return this.#environment.join({ ...options, signal: AbortSignal.any([options.signal, this.#launcher.closing]) });
  }

  async #makeEnvironment(options: PrepareOptions): Promise<PythonEnvironment> {
    // Half a minute of work that nothing could be run in.
    if (!(await isMade(await environmentOf(this.#options)))) await this.#confinement.check();
    return await ensureEnvironment(this.#options, options);
  }

  async #start(plan: SandboxPlan, signal: AbortSignal): Promise<StartedSandbox> {
    const { dataDir, env, noInet = false, logger } = this.#options;
    const { workspace, mounts } = plan.spec;
    await assertWorkspace(workspace.path);
    refuseMoves(mounts);
    const environment = await withoutLinks(await this.#prepare({ signal, onProgress: () => undefined }));
    const place = join(dataDir, "packages", workspace.key);
    await mkdir(place, { recursive: true }); // for whoever the user is to pass through
    await notePackages(place, workspace.path);
    const packages = join(place, "volume");
    await makeOwned(packages, this.#installer, this.#installer === this.#user ? 0o700 : 0o755);
    return await startSandbox(plan, {
      confinement: this.#confinement,
      stateDir: this.#options.stateDir,
      environment,
      packages,
      runRoot: this.#runRoot,
      records: this.#records,
      path: env["PATH"] ?? "",
      user: plan.role === "installer" ? this.#installer : this.#user,
      noInet,
      signal,
      logger,
    });
  }
}

/** Paths are this host's, and walls are not mounts. */
function insideOf({ workspace }: SandboxSpec): Inside {
  return { workspacePath: workspace.path, shields: [] };
}

/** Nothing can be mounted here, so a directory is where it is. */
function refuseMoves(mounts: SandboxSpec["mounts"]): void {
  const moved = mounts.find(({ source, target }) => source !== target);
  if (moved === undefined) return;
  throw new IpyboxError("invalid-configuration", `${moved.source} can't be at ${moved.target} without a container`, {
    hint: "Give --mount without a target, or use --sandbox docker.",
  });
}

function shortTemporaryDirectory(): string {
  return Buffer.byteLength(tmpdir()) <= MAX_RUNTIME_DIR_BYTES ? tmpdir() : "/tmp";
}
