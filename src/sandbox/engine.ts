import type { Duplex } from "node:stream";

/**
 * The port between the product and whatever makes sandboxes. No vendor type in it: a container, a local process and
 * a pod all fit. An engine owns both ends of both wires: {@link Sandbox.connectGateway} and `onBridgeConnection`.
 */
export interface SandboxEngine extends AsyncDisposable {
  /** What every launch needs and {@link prepare} makes, in words for people. */
  readonly foundation: "kernel image" | "Python environment";
  /** Makes the foundation where it is missing. Idempotent; concurrent calls share one preparation. */
  prepare(options: PrepareOptions): Promise<void>;
  /** Starts a sandbox. Resolves when its gateway has dialled in; a failed launch leaves nothing behind. */
  launch(spec: SandboxSpec, options: LaunchOptions): Promise<Sandbox>;
  /** Makes a place for what a task builds and the next one takes over. */
  openScratch(spec: SandboxSpec): Promise<Scratch>;
  /** Runs a helper module of `ipybox_sandbox` to its end in a sandbox of its own, with the same walls. */
  runTask(spec: TaskSpec, options: TaskOptions): Promise<TaskResult>;
  /** Removes sandboxes of dead owners of this machine and PID namespace; resolves to how many there were. */
  reapOrphans(): Promise<number>;
}

/** A running sandbox. Disposing removes it and everything made for it; twice is the same as once. */
export interface Sandbox extends AsyncDisposable {
  readonly id: string;
  /** Where the workspace is inside, the cwd of cells: its own host path, or `/workspace` where that can't be mounted. */
  readonly workspacePath: string;
  /**
   * True where the engine does not share this host's files: what is there is empty at first, and the caller keeps it
   * and the workspace the same. What is masked or protected is then not there at all, unless the caller puts it there.
   */
  readonly workspaceCopied?: boolean;
  /** How bytes cross: by sockets in a directory that both sides have, or in one stream each way. */
  readonly link: "socket" | "exec";
  /** Bytes to the kernel gateway: a fresh stream per call. HTTP and WebSocket take it through `createConnection`. */
  connectGateway(options: { readonly signal: AbortSignal }): Promise<Duplex>;
  /** Resolves (never rejects) when the sandbox is gone, whoever ended it. */
  readonly exited: Promise<SandboxExit>;
  /**
   * Lets nothing in it run any further, for good: dispose it next. Resolves when it stands still; a sandbox that has
   * ended is no error.
   */
  pause(): Promise<void>;
  /** The last lines that init and gateway wrote; control sequences stripped. Works after the exit too. */
  tailLogs(lines: number): Promise<string>;
}

export interface SandboxExit {
  /** Exit code of the sandbox's first process; undefined where it can't be known. */
  readonly code: number | undefined;
  readonly outOfMemory: boolean;
}

export interface BuildStep {
  /** One line for people. */
  readonly message: string;
  readonly step?: { readonly current: number; readonly total: number };
}

export interface PrepareOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (step: BuildStep) => void;
}

export interface SandboxSpec {
  /** Lower-case hexadecimal id of the session: part of names, labels and directories. */
  readonly sessionId: string;
  readonly workspace: SandboxWorkspace;
  readonly mounts: readonly ExtraMount[];
}

export interface SandboxWorkspace {
  /** Real path on the host. */
  readonly path: string;
  /** Stable short id of the real path: names the package volume. */
  readonly key: string;
  /** Files that read as empty inside; real paths below `path`. */
  readonly masked: readonly string[];
  /** Files and directories that are read-only inside; real paths below `path`. */
  readonly protected: readonly string[];
}

export interface ExtraMount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

export interface LaunchOptions {
  readonly signal: AbortSignal;
  /** A connection that code in the kernel opened to ask for tool calls. Hostile. */
  readonly onBridgeConnection: (stream: Duplex) => void;
  /** The way out, through the host; absent where there is none. */
  readonly egress?: SandboxEgress | undefined;
}

export interface SandboxEgress {
  /** A connection that something in the sandbox opened, to be served as an HTTP proxy. Hostile. */
  readonly onConnection: (stream: Duplex) => void;
  /** Certificates, PEM, that programs inside are to trust. */
  readonly caBundle: string;
}

export interface TaskSpec extends SandboxSpec {
  /** Module of `ipybox_sandbox`, run as `python -m ipybox_sandbox.<module>` below init. */
  readonly module: string;
  readonly args: readonly string[];
  /** Read-only then. Where it can be kept from a task, one that brings code from elsewhere has no business there. */
  readonly seesWorkspace: boolean;
  readonly storage: TaskStorage;
}

/** What of the packages and of a scratch a task may write besides its temporary files: one of them, never both. */
export type TaskStorage =
  /** The scratch is there to be read. No foreign code has any business in such a task. */
  | { readonly writes: "packages"; readonly scratch?: Scratch | undefined }
  /** The packages are there to be read. What is in the scratch afterwards is hostile. */
  | { readonly writes: "scratch"; readonly scratch: Scratch };

/** Disposing removes it, whatever is in it; so does the end of the process that made it. */
export interface Scratch extends AsyncDisposable {
  /** As its engine calls it. */
  readonly name: string;
}

export interface TaskOptions {
  readonly signal: AbortSignal;
  /** Output of the task, stdout and stderr interleaved, decoded, as it comes. */
  readonly onOutput: (text: string) => void;
  /** A connection that the task opened to its egress socket. Hostile. */
  readonly onEgressConnection: (stream: Duplex) => void;
}

export interface TaskResult {
  readonly code: number | undefined;
  readonly outOfMemory: boolean;
}
