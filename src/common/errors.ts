/** Every code that a user or a client can meet, with its meaning: the README's table is generated from it. */
export const ERROR_CODES = {
  "invalid-arguments": "A tool was called with arguments that its schema does not admit",
  "invalid-configuration": "An option, environment variable or configuration file is wrong",
  "invalid-workspace": "The workspace or a mount is missing, of the wrong kind, or too dangerous to share",
  "workspace-gone": "The workspace directory was removed or replaced while the server was running",
  "state-unusable": "ipybox's state directory can't be written",
  "engine-unreachable": "The container engine does not answer",
  "engine-error": "The container engine refused a request",
  "confinement-unavailable": "sandbox-runtime or what it needs is not installed, or does not work here",
  "image-building":
    "The kernel image, or the Python environment of an engine without containers, is still being built; call again",
  "image-build-failed": "The kernel image could not be built",
  "environment-build-failed": "The Python environment of an engine without containers could not be made",
  "sandbox-start-failed": "The sandbox did not become ready",
  "sandbox-gone": "The sandbox ended while it was in use; the next call gets a new one",
  "kernel-unreachable": "The kernel gateway does not answer; the next call gets a new sandbox",
  "disk-full": "The host's disk is full",
  "invalid-server-name": "A server name is not a Python identifier of at most 64 characters",
  "invalid-server-params": "Server parameters have a wrong shape or unknown keys",
  "missing-variable": "A ${NAME} placeholder names a variable that is not set or not exposed",
  "workspace-program": "An upstream's command, directory or script lies in the workspace, where cells can write",
  "registration-disabled": "Registration by the model is switched off",
  "upstream-start-failed": "An MCP server could not be started or connected to",
  "upstream-unavailable": "A registered MCP server is down and its restart is backing off",
  "unknown-server": "No MCP server of that name is registered in this workspace",
  "unknown-tool": "The MCP server does not list a tool of that name",
  "tool-failed": "The MCP server reported an error for a tool call",
  "tool-timeout": "A tool call took longer than its cell may",
  "tool-cancelled": "A tool call was cancelled",
  "tool-result-too-large": "A tool's result exceeds the frame limit of the bridge",
  "too-many-calls": "More tool calls are in flight than the bridge admits",
  "generation-failed": "The Python API of an MCP server could not be generated",
  "invalid-requirement": "A package requirement is malformed or of a kind that is not admitted",
  "install-failed": "A package could not be installed; nothing was changed",
  internal: "A bug in ipybox; please report it",
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorDetails {
  /** What the user can do next: one sentence, imperative. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Facts for the log; never shown to the model. */
  readonly context?: Readonly<Record<string, unknown>>;
}

/** An error thrown on purpose: its message and hint are fit for the user's eyes. Anything else is a bug. */
export class IpyboxError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly context: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.name = "IpyboxError";
    this.code = code;
    this.hint = details.hint;
    this.context = details.context ?? {};
  }
}

/** The message of whatever was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The `code` of a Node system error (`ENOENT`, …), or undefined. */
export function systemCodeOf(thrown: unknown): string | undefined {
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
  return typeof code === "string" ? code : undefined;
}

/** Why a path can't be used: in words that name no system call where there are such, else {@link messageOf}. */
export function pathReasonOf(thrown: unknown): string {
  return PATH_REASONS[systemCodeOf(thrown) ?? ""] ?? messageOf(thrown);
}

const PATH_REASONS: Readonly<Record<string, string | undefined>> = {
  ENOENT: "there is no such file or directory",
  ENOTDIR: "a part of the path is no directory",
  EISDIR: "it is a directory",
  EACCES: "permission is denied",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
};
