import { pathReasonOf, systemCodeOf } from "../common/errors.ts";
import { readJsonFile } from "../common/read-json.ts";
import { defaultConfigFile } from "./directories.ts";
import { type Config, flagName, type Option, OPTION_NAMES, type OptionName, OPTIONS, variableName } from "./options.ts";
import { findPathProblems } from "./paths.ts";

/** What a source gave for each option: flags and variables give text, the file JSON. */
export type Given = Partial<Record<OptionName, unknown>>;

export interface ConfigSources {
  readonly flags: Given;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** `--config`; the default place is read when absent, and may be missing then. */
  readonly configFile?: string | undefined;
}

export type LoadedConfig =
  | { readonly config: Config; readonly problems?: undefined }
  | {
      readonly config?: undefined;
      readonly problems: readonly string[];
      /** The options that are right by themselves. */
      readonly sound: Partial<Config>;
    };

/** Flag beats environment beats file beats default; every problem of every source is listed at once. */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const problems = findUnknownVariables(sources.env);
  const file = readConfigFile(sources, problems);
  const values: Partial<Record<OptionName, unknown>> = {};
  for (const name of OPTION_NAMES) {
    const { value, origin } = pick(name, sources, file);
    if (value === undefined) {
      values[name] = isRepeatable(name) ? [] : undefined;
      continue;
    }
    const parsed = OPTIONS[name].schema.safeParse(value);
    if (parsed.success) values[name] = parsed.data;
    else problems.push(...parsed.error.issues.map((issue) => `${origin}: ${issue.message}`));
  }
  const sound = values as Partial<Config>; // what is there was checked by its own schema
  problems.push(...findPathProblems(sound));
  if (problems.length > 0) return { problems, sound };
  values.allowWorkspaceUpstream ??= false;
  return { config: values as Config }; // every name of the table was set above, by its own schema
}

/** What is meant to hide or to forbid something must not be passed over for its spelling. */
function findUnknownVariables(env: ConfigSources["env"]): string[] {
  const known = new Set([...OPTION_NAMES.map(variableName), ...OTHER_VARIABLES]);
  const given = Object.keys(env).filter((name) => name.startsWith("IPYBOX_") && (env[name] ?? "") !== "");
  return given.filter((name) => !known.has(name)).map((name) => `unknown option ${name} in the environment`);
}

function pick(name: OptionName, sources: ConfigSources, file: Given): { value: unknown; origin: string } {
  const flag = sources.flags[name];
  if (flag !== undefined) return { value: flag, origin: `--${flagName(name)}` };
  const variable = sources.env[variableName(name)];
  if (variable !== undefined && variable !== "") {
    return { value: isRepeatable(name) ? splitList(variable) : variable, origin: variableName(name) };
  }
  if (file[name] !== undefined) return { value: file[name], origin: `"${flagName(name)}" in the configuration file` };
  const fallback = (OPTIONS[name] as Option).default;
  return {
    value: fallback !== undefined && isRepeatable(name) ? [fallback] : fallback,
    origin: `default of --${flagName(name)}`,
  };
}

function readConfigFile(sources: ConfigSources, problems: string[]): Given {
  const path = sources.configFile ?? defaultConfigFile(sources.env);
  const document = readJson(path, { mayBeAbsent: sources.configFile === undefined }, problems);
  if (document === undefined) return {};
  if (typeof document !== "object" || document === null || Array.isArray(document)) {
    problems.push(`${path}: must hold a JSON object`);
    return {};
  }
  const given: Given = {};
  for (const [key, value] of Object.entries(document)) {
    const name = OPTION_NAMES.find((candidate) => candidate === key || flagName(candidate) === key);
    if (name === undefined) problems.push(`${path}: unknown option "${key}"`);
    else given[name] = value;
  }
  return given;
}

function readJson(path: string, options: { mayBeAbsent: boolean }, problems: string[]): unknown {
  try {
    return readJsonFile(path);
  } catch (error) {
    if (!(options.mayBeAbsent && systemCodeOf(error) === "ENOENT")) problems.push(`${path}: ${pathReasonOf(error)}`);
    return undefined;
  }
}

function isRepeatable(name: OptionName): boolean {
  return (OPTIONS[name] as Option).repeatable === true;
}

function splitList(value: string): string[] {
  return value
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** Of `images/bootstrap-base.sh`, and of a kernel's own environment where there is no container. */
const OTHER_VARIABLES = ["IPYBOX_DEBIAN_SUITE", "IPYBOX_DEBIAN_MIRROR", "IPYBOX_TOOLS"];
