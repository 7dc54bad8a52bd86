import { join } from "node:path";
import { IpyboxError } from "../common/errors.ts";
import { withHostLock } from "../common/host-lock.ts";
import type { Logger } from "../common/logger.ts";
import { formatDuration } from "../common/time.ts";
import { Installation, type InstallationOptions } from "./installation.ts";
import { toFailure } from "./install-failure.ts";
import { parseRequirement, type Requirement, toRule } from "./requirement.ts";

export interface PackageInstallerOptions extends InstallationOptions {
  /** Real path of the workspace. */
  readonly workspace: string;
  /** See {@link parseRequirement}. */
  readonly innerPath?: string | undefined;
  /** State directory of the workspace: the lock lies there. */
  readonly stateDir: string;
  /** Hosts that need not be public ones (`--allow-private`). */
  readonly admitsPrivate: (host: string, port: number) => boolean;
  readonly logger: Logger;
}

export interface InstallOptions {
  readonly signal: AbortSignal;
  /** The installer's words as they come: text, not lines. */
  readonly onProgress: (text: string) => void;
  /** `kernel`: asked for by code in a cell, which may choose packages of the indexes and of the workspace only. */
  readonly origin: "user" | "kernel";
  /** Hosts that code in a cell may name besides (`--allow-domain`). */
  readonly admitsHost?: (host: string, port: number) => boolean;
}

/** Installs packages into the workspace's volume, one at a time, across servers as well. */
export class PackageInstaller {
  readonly #options: PackageInstallerOptions;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: PackageInstallerOptions) {
    this.#options = options;
  }

  /**
   * Resolves to the installer's own words, their last 5,000 characters. Rejects with `invalid-requirement` before
   * anything is started, with `install-failed` or `disk-full` when nothing was installed, with the signal's reason when
   * cancelled.
   */
  async install(text: string, options: InstallOptions): Promise<string> {
    const requirement = parseRequirement(text, this.#options);
    if (options.origin === "kernel") refuseForeignHost(requirement, options);
    const turn = this.#last.then(() => this.#installAlone(requirement, options));
    this.#last = turn.catch(() => undefined);
    return await turn;
  }

  async #installAlone(requirement: Requirement, options: InstallOptions): Promise<string> {
    const lock = {
      signal: options.signal,
      onWaiting: () => options.onProgress("Waiting for another install in this workspace\n"),
    };
    return await withHostLock(join(this.#options.stateDir, "packages/install"), lock, async (lost) => {
      const signals = [options.signal, lost, ...(options.origin === "kernel" ? [kernelsDeadline()] : [])];
      return await this.#run(requirement, AbortSignal.any(signals), options);
    });
  }

  async #run(requirement: Requirement, signal: AbortSignal, options: InstallOptions): Promise<string> {
    const installation = new Installation(requirement, signal, this.#options, options.onProgress);
    this.#options.logger.info("installing a package", { kind: requirement.kind });
    const result = await installation.run();
    this.#options.logger.info("installer ended", { code: result.code, outOfMemory: result.outOfMemory });
    if (result.code !== 0) throw toFailure(requirement, installation.output, result);
    return installation.output;
  }
}

function refuseForeignHost(requirement: Requirement, options: InstallOptions): void {
  if (!("host" in requirement) || options.admitsHost?.(requirement.host, requirement.port)) return;
  throw new IpyboxError("invalid-requirement", `Code in a cell can't install from ${requirement.host}`, {
    hint: `Call the tool install_package instead, or start ipybox with --allow-domain ${toRule(requirement)}`,
  });
}

/** Whoever asks from inside may never hang up, and would keep everybody else in the workspace from installing. */
function kernelsDeadline(): AbortSignal {
  const deadline = new AbortController();
  const end = () =>
    deadline.abort(
      new IpyboxError("install-failed", `An install from a cell may take ${formatDuration(KERNEL_INSTALL_MS)}`, {
        hint: "Call the tool install_package instead, which has all the time it needs",
      }),
    );
  setTimeout(end, KERNEL_INSTALL_MS).unref();
  return deadline.signal;
}

const KERNEL_INSTALL_MS = 600_000;
