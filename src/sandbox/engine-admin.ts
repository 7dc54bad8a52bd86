import type { Logger } from "../common/logger.ts";
import type { PrepareOptions, SandboxEngine, SandboxWorkspace } from "./engine.ts";
import type { KernelBuildOptions } from "./kernel-sources.ts";

/** What every engine is made with. */
export interface EngineOptions extends KernelBuildOptions {
  /** Parent of the run directories, which must be short, for sockets lie in them. Chosen by the engine if absent. */
  readonly runtimeDir?: string | undefined;
  readonly logger: Logger;
}

/** What operators ask of an engine (`ipybox build`, `ps`, `prune`, `doctor`); sessions need none of it. */
export interface AdministeredEngine extends SandboxEngine {
  /** Like {@link SandboxEngine.prepare}; resolves to the tag of the kernel image, or the environment's directory. */
  buildImage(options: PrepareOptions): Promise<string>;
  /** Every sandbox of this engine, whoever owns it, oldest first. */
  listSandboxes(): Promise<readonly SandboxListing[]>;
  /** Removes what nobody needs any more; with `all` every sandbox and package volume, in use or not. */
  prune(options: { readonly all: boolean }): Promise<PruneReport>;
  /** Checks everything that a sandbox over the workspace needs, last by starting one, if there is one; never rejects. */
  diagnose(workspace: DiagnosedWorkspace | undefined): Promise<readonly Diagnosis[]>;
}

export type DiagnosedWorkspace = Pick<SandboxWorkspace, "path" | "key">;

export interface SandboxListing {
  readonly id: string;
  readonly session: string;
  readonly role: string;
  /** Host path of the workspace. */
  readonly workspace: string;
  /** Whether the owning process lives; `unknown` when it is of another machine or PID namespace. */
  readonly owner: "alive" | "dead" | "unknown";
  readonly ownerPid: number | undefined;
  readonly ageMs: number;
  /** Without the page cache; undefined where the engine does not say. */
  readonly memoryBytes: number | undefined;
}

export interface PruneReport {
  /** Names of what was removed. */
  readonly sandboxes: readonly string[];
  readonly images: readonly string[];
  readonly volumes: readonly string[];
}

export interface Diagnosis {
  readonly name: string;
  readonly status: "ok" | "warn" | "fail";
  readonly detail: string;
  /** What to do about it; absent when ok. */
  readonly remedy?: string;
}
