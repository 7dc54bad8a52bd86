import { z } from "zod";

import { LOG_LEVELS } from "../common/logger.ts";

/** One option of the command line, as flag, environment variable and key of the configuration file. */
export interface Option<Schema extends z.ZodType = z.ZodType> {
  /** Checks and converts what a flag, a variable (strings) or the file (JSON) gave. */
  readonly schema: Schema;
  /** How the value is shown in usage texts; absent for switches. */
  readonly value?: string;
  /** What the flag means without a value, at the end of the line or before another flag. */
  readonly bare?: string;
  readonly repeatable?: true;
  /** What is taken when the option is not given, as the user would write it. */
  readonly default?: string;
  /** Shown in place of the default where that is computed. */
  readonly defaultText?: string;
  readonly help: string;
  /** Which commands have it besides `serve`. */
  readonly commands: readonly CommandName[];
}

export type CommandName = "serve" | "run" | "build" | "doctor" | "ps" | "prune" | "servers";

const BINARY_UNITS = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 } as const;

/** `512m`, `2g`, `1.5g`: bytes in powers of 1024, as Docker reads them; a bare number is bytes. */
const bytes = (atLeast: { readonly size: number; readonly text: string }) =>
  z.union([z.string(), z.number()], { error: "must be a size such as 512m or 2g" }).transform((value, context) => {
    const text = String(value);
    const [, number, unit] = /^(\d+(?:\.\d+)?)([bkmgt])?i?b?$/i.exec(text.trim()) ?? [];
    const size = Math.round(Number(number) * BINARY_UNITS[(unit?.toLowerCase() ?? "b") as keyof typeof BINARY_UNITS]);
    if (Number.isSafeInteger(size) && size >= atLeast.size) return size;
    const wanted = Number.isSafeInteger(size)
      ? `must be at least ${atLeast.text}`
      : "must be a size such as 512m or 2g";
    context.addIssue({ code: "custom", message: `${wanted}, not "${text}"` });
    return z.NEVER;
  });

/** What the engine takes at the least. */
const MEMORY_FLOOR = { size: 6 * 2 ** 20, text: "6m" };
const TMP_FLOOR = { size: 2 ** 20, text: "1m" };

const positive = (kind: "number" | "integer") =>
  z.union([z.string(), z.number()], { error: `must be a positive ${kind}` }).transform((value, context) => {
    const number = typeof value === "number" ? value : value.trim() === "" ? Number.NaN : Number(value);
    if (Number.isFinite(number) && number > 0 && (kind === "number" || Number.isSafeInteger(number))) return number;
    context.addIssue({ code: "custom", message: `must be a positive ${kind}, not "${value}"` });
    return z.NEVER;
  });

const toggle = z
  .union([z.boolean(), z.enum(["true", "false", "1", "0"])], {
    error: (issue) => `must be true or false, not ${JSON.stringify(issue.input)}`,
  })
  .transform((value) => value === true || value === "true" || value === "1");

const text = z.string({ error: "must be text" }).min(1, "must not be empty");
const texts = z.array(text, { error: "must be a list" });
const choice = <const Values extends readonly [string, ...string[]]>(...values: Values) =>
  z.enum(values, { error: (issue) => `must be one of ${values.join(", ")}, not ${JSON.stringify(issue.input)}` });

const refuseGpus = ({ input }: { readonly input?: unknown }) =>
  `must be all or a positive integer, not ${JSON.stringify(input)}`;

const WITH_ENGINE = ["run", "build", "doctor"] as const;

const option = <Schema extends z.ZodType>(schema: Schema, rest: Omit<Option<Schema>, "schema">) => ({
  schema,
  ...rest,
});

/** Every option there is, in the order of the usage text. The README's table is generated from this. */
export const OPTIONS = {
  workspace: option(text, {
    value: "PATH",
    default: ".",
    help: "Host directory that is mounted in the sandbox and is the cwd of cells; made if absent and its parent exists",
    commands: ["run", "doctor", "servers"],
  }),
  mount: option(texts, {
    value: "SRC[:DST][:rw]",
    repeatable: true,
    help: "Another host directory, by default read-only and at its own path",
    commands: ["run"],
  }),
  sandbox: option(choice("docker", "srt", "none"), {
    value: "ENGINE",
    bare: "srt",
    default: "docker",
    help: "What makes sandboxes: docker (Docker Engine), srt (Anthropic's sandbox-runtime; also the bare flag) or none (processes of this host, without any wall)",
    commands: [...WITH_ENGINE, "ps", "prune"],
  }),
  sandboxConfig: option(text, {
    value: "PATH",
    help: "Settings file of sandbox-runtime, for --sandbox srt; by default cells read all but .env, write the workspace and have no internet",
    commands: WITH_ENGINE,
  }),
  envFile: option(text, {
    value: "PATH",
    defaultText: "`.env` in the workspace",
    help: "Variables for placeholders and kernels; the process environment wins over it",
    commands: ["run", "doctor"],
  }),
  mcpConfig: option(text, {
    value: "PATH",
    help: 'JSON file {"mcpServers": {name: server_params}}; its servers are registered in the background at start',
    commands: ["run"],
  }),
  registration: option(choice("allow", "config-only"), {
    value: "MODE",
    default: "allow",
    help: "Who may register MCP servers: allow (the model too) or config-only (--mcp-config alone)",
    commands: [],
  }),
  expose: option(texts, {
    value: "GLOB",
    repeatable: true,
    default: "*",
    help: "Variables that ${NAME} placeholders may use",
    commands: ["run"],
  }),
  allowWorkspaceUpstream: option(toggle, {
    help: "Let MCP servers be started from programs in the workspace, which cells can write",
    commands: ["run"],
  }),
  noRedact: option(texts, {
    value: "NAME",
    repeatable: true,
    help: "A variable whose value is not replaced by ${NAME} where an MCP server echoes it",
    commands: ["run"],
  }),
  image: option(text, {
    value: "TAG",
    defaultText: "built from images/kernel",
    help: "Use this kernel image and never build one",
    commands: ["run", "doctor"],
  }),
  baseImage: option(text, {
    value: "REF",
    default: "debian:trixie-slim",
    help: "Base of the kernel image: Debian 12 or newer, or a derivative with apt",
    commands: WITH_ENGINE,
  }),
  memory: option(bytes(MEMORY_FLOOR), {
    value: "SIZE",
    default: "2g",
    help: "Memory limit of a sandbox, without swap",
    commands: ["run"],
  }),
  cpus: option(positive("number"), { value: "N", default: "2", help: "CPU limit of a sandbox", commands: ["run"] }),
  pids: option(positive("integer"), {
    value: "N",
    default: "512",
    help: "Limit of processes and threads in a sandbox",
    commands: ["run"],
  }),
  tmpSize: option(bytes(TMP_FLOOR), {
    value: "SIZE",
    default: "512m",
    help: "Size of /tmp in a sandbox",
    commands: ["run"],
  }),
  runtime: option(text, {
    value: "NAME",
    defaultText: "the engine's",
    help: "OCI runtime of sandboxes, for example runsc",
    commands: ["run", "doctor"],
  }),
  link: option(choice("auto", "socket", "exec"), {
    value: "LINK",
    default: "auto",
    help: "How bytes cross: socket (a shared directory), exec (the engine's own streams), or auto, the first that works",
    commands: ["run", "doctor"],
  }),
  gpus: option(z.union([z.literal("all"), positive("integer")], { error: refuseGpus }), {
    value: "N|all",
    defaultText: "none",
    help: "GPUs of a sandbox, passed to the engine",
    commands: ["run"],
  }),
  requirements: option(text, {
    value: "FILE",
    help: "Python packages baked into the kernel image, or into the Python environment",
    commands: WITH_ENGINE,
  }),
  allowDomain: option(texts, {
    value: "HOST",
    repeatable: true,
    defaultText: "none",
    help: "Host that cells may reach over HTTP and HTTPS: example.org, *.example.org or example.org:8443 (ports 443 and 80 without one)",
    commands: ["run"],
  }),
  allowPrivate: option(texts, {
    value: "HOST",
    repeatable: true,
    defaultText: "none",
    help: "Like --allow-domain, for a host that has a private address; also the host of a package's URL",
    commands: ["run"],
  }),
  indexUrl: option(z.url({ protocol: /^https?$/, error: "must be an http or https URL" }), {
    value: "URL",
    defaultText: "pip's own configuration, else PyPI",
    help: "Package index of install_package",
    commands: ["run", "doctor"],
  }),
  extraIndexUrl: option(
    z.array(z.url({ protocol: /^https?$/, error: "must be an http or https URL" }), { error: "must be a list" }),
    {
      value: "URL",
      repeatable: true,
      help: "Further package index",
      commands: ["run", "doctor"],
    },
  ),
  mask: option(texts, {
    value: "GLOB",
    repeatable: true,
    help: "Workspace files that read as empty in the sandbox, besides .env files",
    commands: ["run"],
  }),
  protect: option(texts, {
    value: "PATH",
    repeatable: true,
    help: "Workspace paths that are read-only in the sandbox, besides .git and the like",
    commands: ["run"],
  }),
  unprotect: option(texts, {
    value: "PATH",
    repeatable: true,
    help: "Lifts one mask or protection",
    commands: ["run"],
  }),
  logLevel: option(choice(...LOG_LEVELS), {
    value: "LEVEL",
    default: "info",
    help: "How much is logged on stderr: debug, info, warn, error",
    commands: ["run", "build", "doctor", "prune"],
  }),
  logFormat: option(choice("text", "json"), {
    value: "FORMAT",
    default: "text",
    help: "Form of the log: text or json",
    commands: ["run", "build", "doctor", "prune"],
  }),
} as const satisfies Record<string, Option>;

export type OptionName = keyof typeof OPTIONS;

type ValueOf<Name extends OptionName> = z.output<(typeof OPTIONS)[Name]["schema"]>;
type Always =
  | "workspace"
  | "sandbox"
  | "registration"
  | "baseImage"
  | "memory"
  | "cpus"
  | "pids"
  | "tmpSize"
  | "link"
  | "logLevel"
  | "logFormat";
type Repeatable =
  "allowDomain" | "allowPrivate" | "mount" | "expose" | "noRedact" | "extraIndexUrl" | "mask" | "protect" | "unprotect";

/** The configuration, checked and converted: sizes in bytes, lists always there, the rest undefined when not given. */
export type Config = { readonly [Name in Always | Repeatable]: ValueOf<Name> } & {
  readonly [Name in Exclude<OptionName, Always | Repeatable | "allowWorkspaceUpstream">]: ValueOf<Name> | undefined;
} & { readonly allowWorkspaceUpstream: boolean };

export const OPTION_NAMES = Object.keys(OPTIONS) as OptionName[]; // TypeScript types keys as string

/** `envFile` → `env-file`: the flag's name, and the key in the configuration file. */
export function flagName(name: OptionName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `envFile` → `IPYBOX_ENV_FILE`. */
export function variableName(name: OptionName): string {
  return `IPYBOX_${flagName(name).replaceAll("-", "_").toUpperCase()}`;
}
