import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

import { ZodError } from "zod";

import { ALL_IN_ONE, type AllInOneUsers } from "./all-in-one.ts";
import { cleanPath } from "./broker/host-paths.ts";
import { IpyboxError, messageOf } from "./common/errors.ts";
import { describeIssues } from "./common/issues.ts";
import type { Logger } from "./common/logger.ts";
import { packageFile } from "./common/package-files.ts";
import { readJsonFile } from "./common/read-json.ts";
import { runtimeDirectory, stateDirectory } from "./config/directories.ts";
import { type Config, flagName, type Option, type OptionName, OPTIONS } from "./config/options.ts";
import type { AdministeredEngine } from "./sandbox/engine-admin.ts";
import {
  createDockerEngine,
  createLocalEngine,
  createSrtEngine,
  parseSrtSettings,
  type SrtSettings,
} from "./sandbox/engines.ts";
import type { Owner } from "./workspace/owner.ts";

export interface EngineGrounds {
  /** Real path of the workspace. */
  readonly workspace: string;
  /** As whom sandboxes run. */
  readonly owner: Owner;
  /** Set in the all-in-one image. */
  readonly cellsBeside: AllInOneUsers | undefined;
  readonly logger: Logger;
}

/** The engine that `--sandbox` names; nothing of it is running yet. */
export function chooseEngine(config: Config, grounds: EngineGrounds): AdministeredEngine {
  const { workspace, owner, cellsBeside, logger } = grounds;
  const common = {
    requirements: config.requirements === undefined ? undefined : resolve(config.requirements),
    stateDir: stateDirectory(process.env),
    imagesDir: packageFile("images"),
    logger,
  };
  switch (config.sandbox) {
    case "docker":
      return createDockerEngine({
        ...common,
        image: config.image,
        baseImage: config.baseImage,
        uid: owner.uid,
        gid: owner.gid,
        limits: { memoryBytes: config.memory, cpus: config.cpus, pids: config.pids, tmpBytes: config.tmpSize },
        runtime: config.runtime,
        gpus: config.gpus,
        link: config.link,
        runtimeDir: runtimeDirectory(process.env),
        env: { ...process.env, PATH: pathOutside(workspace) },
      });
    case "srt":
      return createSrtEngine({
        ...localOptions(owner, workspace),
        ...common,
        srt: { settings: srtSettings(config), workspace, path: pathOutside(workspace) },
      });
    case "none":
      return createLocalEngine({
        ...localOptions(owner, workspace),
        ...common,
        ...(cellsBeside && {
          installer: cellsBeside.installer,
          noInet: true,
          madeEnvironment: ALL_IN_ONE.environment,
        }),
      });
  }
}

function localOptions(owner: Owner, workspace: string) {
  return {
    // What root has in its home is out of another user's reach.
    dataDir: owner.uid === process.geteuid?.() ? join(stateDirectory(process.env), "local") : ALL_IN_ONE.data,
    user: owner,
    env: { ...process.env, PATH: pathOutside(workspace) },
  };
}

function pathOutside(workspace: string): string {
  return cleanPath(process.env["PATH"] ?? "", [workspace]);
}

function srtSettings({ sandboxConfig }: Config): SrtSettings {
  return sandboxConfig === undefined ? parseSrtSettings({}) : readSrtSettings(sandboxConfig);
}

/** What a file of `--sandbox-config` gives. Throws `invalid-configuration`. */
export function readSrtSettings(path: string): SrtSettings {
  try {
    return parseSrtSettings(readJsonFile(path));
  } catch (cause) {
    const reason = cause instanceof ZodError ? describeIssues(cause, "the file").join("; ") : messageOf(cause);
    throw new IpyboxError("invalid-configuration", `--sandbox-config ${path}: ${reason}`, {
      hint: "It is a settings file of @anthropic-ai/sandbox-runtime, JSON.",
      cause,
    });
  }
}

/** The hosts that cells may reach: those of `--allow-domain`, and those of sandbox-runtime's settings. */
export function allowedDomains(config: Config): readonly string[] {
  return config.sandbox === "srt"
    ? [...config.allowDomain, ...srtSettings(config).network.allowedDomains]
    : config.allowDomain;
}

/** What the user has to know of an engine that is no container, at every start. */
export function engineWarnings(config: Config, cellsBeside: AllInOneUsers | undefined): readonly string[] {
  switch (config.sandbox) {
    case "docker":
      return withoutEffect(config, ["sandboxConfig"]);
    case "srt":
      return [...withoutEffect(config, OF_CONTAINERS), ...absentWritable(config)];
    case "none":
      if (cellsBeside) return withoutEffect(config, [...OF_CONTAINERS, ...OF_WALLS]);
      return [
        "--sandbox none: cells run without any wall. They can read and change every file of yours, .env and keys " +
          "included, reach the network, and use this machine without limit",
        ...withoutEffect(config, [...OF_CONTAINERS, ...OF_WALLS]),
      ];
  }
}

/** bubblewrap mounts what is there when the sandbox starts, and passes over the rest without a word. */
function absentWritable(config: Config): string[] {
  const absent = (srtSettings(config).filesystem.allowWrite ?? []).filter(
    (path) => !path.startsWith("~") && !existsSync(resolve(config.workspace, path)),
  );
  if (process.platform !== "linux" || absent.length === 0) return [];
  return [`--sandbox-config: allowWrite names what is not there, which cells can't make: ${absent.join(", ")}`];
}

/** Whether the engine can hide and protect what is in the workspace. */
export function hasShields(config: Config): boolean {
  return config.sandbox !== "none";
}

/** Whether `--memory` and the like hold. */
export function hasLimits(config: Config): boolean {
  return config.sandbox === "docker";
}

const OF_CONTAINERS = ["image", "memory", "cpus", "pids", "tmpSize", "runtime", "link", "gpus"] as const;
const OF_WALLS = ["sandboxConfig", "mask", "protect", "unprotect", "allowDomain", "allowPrivate"] as const;

function withoutEffect(config: Config, names: readonly OptionName[]): string[] {
  const given = names.filter((name) => [config[name]].flat().some((value) => value !== defaultOf(name)));
  const flags = given.map((name) => `--${flagName(name)}`);
  return given.length === 0 ? [] : [`Without effect under --sandbox ${config.sandbox}: ${flags.join(", ")}`];
}

function defaultOf(name: OptionName): unknown {
  const { schema, default: text } = OPTIONS[name] as Option;
  return text === undefined ? undefined : schema.parse(text);
}
