import { join } from "node:path";
import type { Duplex } from "node:stream";
import { IpyboxError, messageOf } from "../common/errors.ts";
import { type Logger, stripControls } from "../common/logger.ts";
import { formatDuration } from "../common/time.ts";
import { acquireInstallLock } from "./install-lock.ts";
import { parseRequirement, type Requirement } from "./requirement.ts";

/** Runs the module `installer` in a sandbox of its own: the engine's `runTask`, with the workspace filled in. */
export type RunInstaller = (
  args: readonly string[],
  options: {
    /** Otherwise it is kept from the installer: the code of a package may talk to where it came from. */
    readonly seesWorkspace: boolean;
    readonly signal: AbortSignal;
    readonly onOutput: (text: string) => void;
    readonly onEgressConnection: (stream: Duplex) => void;
  },
) => Promise<{ readonly code: number | undefined; readonly outOfMemory: boolean }>;

/** What one installer may reach: the configured indexes, and one host more. Disposed when it has ended. */
export interface InstallerEgress extends AsyncDisposable {
  accept(stream: Duplex): void;
}

export interface PackageInstallerOptions {
  /** Real path of the workspace. */
  readonly workspace: string;
  /** State directory of the workspace: the lock lies there. */
  readonly stateDir: string;
  readonly runInstaller: RunInstaller;
  /** `host` is the one that the requirement's URL names, if it has one. */
  readonly openEgress: (host: { readonly host: string; readonly port: number } | undefined) => InstallerEgress;
  /** Hosts that need not be public ones (`--allow-private`). */
  readonly admitsPrivate: (host: string, port: number) => boolean;
  /** How many indexes that egress serves. */
  readonly indexCount: number;
  /** Whether packages may be built from source: that runs their code, which nothing may keep off the network. */
  readonly builds: boolean;
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
    await using lock = await acquireInstallLock(join(this.#options.stateDir, "packages"), {
      signal: options.signal,
      onWaiting: () => options.onProgress("Waiting for another install in this workspace\n"),
    });
    const signals = [options.signal, lock.lost, ...(options.origin === "kernel" ? [kernelsDeadline()] : [])];
    const signal = AbortSignal.any(signals);
    const host = "host" in requirement ? { host: requirement.host, port: requirement.port } : undefined;
    await using egress = this.#options.openEgress(host);
    const output = new OutputTail();
    this.#options.logger.info("installing a package", { kind: requirement.kind });
    const result = await this.#run(requirement, {
      seesWorkspace: requirement.kind === "local",
      signal,
      onOutput: (piece) => {
        output.append(piece);
        options.onProgress(piece);
      },
      onEgressConnection: (stream) => egress.accept(stream),
    });
    signal.throwIfAborted();
    this.#options.logger.info("installer ended", { code: result.code, outOfMemory: result.outOfMemory });
    if (result.code !== 0) throw failure(requirement, output.text, result);
    return output.text;
  }

  async #run(requirement: Requirement, options: Parameters<RunInstaller>[1]): ReturnType<RunInstaller> {
    const task = {
      requirement: requirement.text,
      local: requirement.kind === "local",
      indexes: this.#options.indexCount,
      hosts: "host" in requirement,
      builds: this.#options.builds,
    };
    try {
      return await this.#options.runInstaller([JSON.stringify(task)], options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (error instanceof IpyboxError) throw error;
      throw new IpyboxError("install-failed", `The installer could not run: ${messageOf(error)}`, {
        hint: "Call again; `ipybox doctor` says what is wrong with the engine",
        cause: error,
      });
    }
  }
}

function refuseForeignHost(requirement: Requirement, options: InstallOptions): void {
  if (!("host" in requirement) || options.admitsHost?.(requirement.host, requirement.port)) return;
  throw new IpyboxError("invalid-requirement", `Code in a cell can't install from ${requirement.host}`, {
    hint: `Call the tool install_package instead, or start ipybox with --allow-domain ${toRule(requirement)}`,
  });
}

/** As --allow-domain and --allow-private take it. */
function toRule({ host, port }: { readonly host: string; readonly port: number }): string {
  return port === 443 ? host : `${host}:${port}`;
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

function failure(
  requirement: Requirement,
  output: string,
  { code, outOfMemory }: Awaited<ReturnType<RunInstaller>>,
): IpyboxError {
  if (code === ENOSPC) {
    return new IpyboxError("disk-full", output, { hint: "Free some space on the container engine's disk" });
  }
  if (outOfMemory) {
    return new IpyboxError("install-failed", `The installer ran out of memory\n${output}`.trim(), {
      hint: "Start ipybox with a larger --memory",
    });
  }
  return new IpyboxError("install-failed", output === "" ? "The installer ended without a word" : output, {
    hint: hintFor(requirement, output),
  });
}

function hintFor(requirement: Requirement, output: string): string {
  if (output.includes("build --requirements"))
    return "Bake the packages into the image: ipybox build --requirements FILE";
  if (NO_COMPILER.test(output)) {
    return "It has to be compiled, and the kernel image has no compiler: take a version that comes as a wheel, or a --base-image that has one";
  }
  if (output.includes("HTTP status server error"))
    return "A package index does not answer: check this host's network, its proxies and --index-url";
  if (/is disabled|--no-build/i.test(output))
    return "Nothing is built from source here: give a version that has a wheel, or bake the package into the image";
  if ("host" in requirement && DENIED_TUNNEL.test(output)) {
    return `${requirement.host} could not be reached: the log says why. Where it has a private address, start ipybox with --allow-private ${toRule(requirement)}`;
  }
  switch (requirement.kind) {
    case "index":
      return "Check the name and version; packages come from the configured indexes only";
    case "url":
    case "git":
      return `Check the URL; the installer reaches ${requirement.host} and the configured indexes only`;
    case "local":
      return "Give a wheel, a source archive or a directory with a pyproject.toml";
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

/** What setuptools, meson, CMake and builds in Rust say. */
const NO_COMPILER =
  /(?:gcc|g\+\+|\bcc|clang|rustc|cargo)\b[^\n]*(?:no such file|not found)|no such file[^\n]*(?:gcc|g\+\+|clang)|(?:unknown|find)[^\n]{0,40}compiler|CMAKE_C(?:XX)?_COMPILER/i;
/** What uv, and git, say of the proxy's refusal, whose words they don't show. */
const DENIED_TUNNEL = /tunnel error|CONNECT tunnel failed/i;
const OUTPUT_CHARACTERS = 5000;
const KERNEL_INSTALL_MS = 600_000;
/** Init's exit code for a task that it ended because too little was free on the disk. */
const ENOSPC = 28;
