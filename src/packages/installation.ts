import type { Duplex } from "node:stream";
import { IpyboxError, messageOf } from "../common/errors.ts";
import { stripControls } from "../common/logger.ts";
import type { Requirement } from "./requirement.ts";

/** A place for what is built, which the one that builds can write and the next step read. */
export interface BuildScratch extends AsyncDisposable {
  readonly name: string;
}

/** What of both an installer can write; the other is there to be read. */
export type InstallerStorage =
  | { readonly writes: "packages"; readonly scratch?: BuildScratch }
  | { readonly writes: "scratch"; readonly scratch: BuildScratch };

/** Runs the module `installer` in a sandbox of its own: the engine's `runTask`, with the workspace filled in. */
export type RunInstaller = (
  args: readonly string[],
  options: {
    /** Otherwise it is kept from the installer: the code of a package may talk to where it came from. */
    readonly seesWorkspace: boolean;
    readonly storage: InstallerStorage;
    readonly signal: AbortSignal;
    readonly onOutput: (text: string) => void;
    readonly onEgressConnection: (stream: Duplex) => void;
  },
) => Promise<InstallerResult>;

/** How one ended. */
export interface InstallerResult {
  readonly code: number | undefined;
  readonly outOfMemory: boolean;
}

/** What one installer may reach: the configured indexes, and one host more. Disposed when it has ended. */
export interface InstallerEgress extends AsyncDisposable {
  accept(stream: Duplex): void;
}

export interface InstallationOptions {
  readonly openScratch: () => Promise<BuildScratch>;
  readonly runInstaller: RunInstaller;
  /**
   * `host` is the one that the requirement's URL names, if it has one. With `marksSourceOnly` the indexes offer for
   * versions that may have to be built what tells the installer so when it is asked for.
   */
  readonly openEgress: (
    host: { readonly host: string; readonly port: number } | undefined,
    indexes: { readonly marksSourceOnly: boolean },
  ) => InstallerEgress;
  /** How many indexes that egress serves. */
  readonly indexCount: number;
  /** Whether packages may be built from source: that runs their code, which nothing may keep off the network. */
  readonly builds: boolean;
}

type Step = "wheels" | "build" | "commit";

/**
 * One installation, in up to three installers: what has wheels is installed in one step. What has none is built by one
 * that can't write the packages, because a build runs foreign code; what it leaves is installed by another.
 */
export class Installation {
  readonly #requirement: Requirement;
  readonly #signal: AbortSignal;
  readonly #options: InstallationOptions;
  readonly #output = new OutputTail();
  readonly #onProgress: (text: string) => void;

  constructor(
    requirement: Requirement,
    signal: AbortSignal,
    options: InstallationOptions,
    onProgress: (text: string) => void,
  ) {
    this.#requirement = requirement;
    this.#signal = signal;
    this.#options = options;
    this.#onProgress = onProgress;
  }

  /** The installers' own words so far. */
  get output(): string {
    return this.#output.text;
  }

  async run(): Promise<InstallerResult> {
    if (!this.#options.builds || mayBeWheel(this.#requirement)) {
      const result = await this.#take("wheels", { writes: "packages" });
      if (result.code !== MUST_BUILD) return result;
    }
    await using scratch = await this.#options.openScratch();
    const result = await this.#take("build", { writes: "scratch", scratch });
    return result.code === 0 ? await this.#take("commit", { writes: "packages", scratch }) : result;
  }

  async #take(step: Step, storage: InstallerStorage): Promise<InstallerResult> {
    this.#signal.throwIfAborted();
    const requirement = this.#requirement;
    const host =
      step !== "commit" && "host" in requirement ? { host: requirement.host, port: requirement.port } : undefined;
    await using egress = this.#options.openEgress(host, {
      marksSourceOnly: step === "wheels" && this.#options.builds,
    });
    const task = {
      step,
      requirement: requirement.text,
      local: requirement.kind === "local",
      indexes: this.#options.indexCount,
      hosts: host !== undefined,
      builds: this.#options.builds,
    };
    try {
      const result = await this.#options.runInstaller([JSON.stringify(task)], {
        seesWorkspace: step !== "commit" && requirement.kind === "local",
        storage,
        signal: this.#signal,
        onOutput: (piece) => {
          this.#output.append(piece);
          this.#onProgress(piece);
        },
        onEgressConnection: (stream) => egress.accept(stream),
      });
      this.#signal.throwIfAborted();
      return result;
    } catch (error) {
      this.#signal.throwIfAborted();
      if (error instanceof IpyboxError) throw error;
      throw new IpyboxError("install-failed", `The installer could not run: ${messageOf(error)}`, {
        hint: "Call again; `ipybox doctor` says what is wrong with the engine",
        cause: error,
      });
    }
  }
}

/** Anything else has to be built. */
function mayBeWheel(requirement: Requirement): boolean {
  switch (requirement.kind) {
    case "index":
      return true;
    case "local":
      return WHEEL_PATH.test(requirement.text);
    case "url":
      return WHEEL_URL.test(requirement.text);
    case "git":
      return false;
  }
}

/** The end of a text that may be long. */
class OutputTail {
  #text = "";

  append(piece: string): void {
    this.#text = (this.#text + piece).slice(-OUTPUT_CHARACTERS);
  }

  get text(): string {
    return stripControls(this.#text).trim();
  }
}

const OUTPUT_CHARACTERS = 5000;
const WHEEL_PATH = /\.whl(?:\[[^\]]*\])?$/i;
const WHEEL_URL = /\.whl(?=$|[?#\s;])/i;
/** The installer's exit code where something has no wheel. */
const MUST_BUILD = 3;
