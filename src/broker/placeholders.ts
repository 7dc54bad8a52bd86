import { IpyboxError } from "../common/errors.ts";

export interface Variable {
  readonly value: string;
  /** Whether the value came from the env file and not from the server's own environment. */
  readonly fromEnvFile: boolean;
}

export type Variables = ReadonlyMap<string, Variable>;

export interface PlaceholderScope {
  readonly variables: Variables;
  /** Globs of the names that placeholders may use. */
  readonly expose: readonly string[];
  /** The value of the built-in `${WORKSPACE}`. */
  readonly workspace: string;
  /** Where variables are set, when that is not in the client's configuration or an env file. */
  readonly whereToSet?: string | undefined;
}

export interface Resolved<T> {
  readonly value: T;
  /** Names of the variables that were put in, `WORKSPACE` not among them. */
  readonly used: ReadonlySet<string>;
}

const PLACEHOLDER = /\$\{([A-Za-z0-9_]+)\}/g;

/**
 * Replaces `${NAME}` in every string value of `template`, at any depth, once: what a value contains stays as it is,
 * and so do keys.
 *
 * @throws IpyboxError `missing-variable` that names every variable which is not set or not exposed.
 */
export function resolvePlaceholders<T>(template: T, scope: PlaceholderScope): Resolved<T> {
  const used = new Set<string>();
  const unset = new Set<string>();
  const hidden = new Set<string>();
  const isExposed = globMatcher(scope.expose);
  const lookUp = (placeholder: string, name: string): string => {
    if (name === "WORKSPACE") return scope.workspace;
    const variable = scope.variables.get(name);
    if (variable !== undefined && isExposed(name)) {
      used.add(name);
      return variable.value;
    }
    (variable === undefined ? unset : hidden).add(name);
    return placeholder;
  };
  const value = mapStrings(template, (text) => text.replaceAll(PLACEHOLDER, lookUp));
  if (unset.size > 0) throw unsetError([...unset], scope.whereToSet);
  if (hidden.size > 0) throw hiddenError([...hidden]);
  // mapStrings keeps the shape: strings become strings, everything else is copied.
  return { value: value as T, used };
}

/** A copy of a JSON value with every string value mapped; keys stay. */
function mapStrings(value: unknown, map: (text: string) => string): unknown {
  if (typeof value === "string") return map(value);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapStrings(item, map)]));
}

/** Matches names against globs of `*` and `?`. */
export function globMatcher(globs: readonly string[]): (name: string) => boolean {
  const patterns = globs.map((glob) => {
    const source = glob.replaceAll(/[\\^$.|+()[\]{}]/g, String.raw`\$&`);
    return new RegExp(`^${source.replaceAll("*", ".*").replaceAll("?", ".")}$`);
  });
  return (name) => patterns.some((pattern) => pattern.test(name));
}

function unsetError(names: readonly string[], whereToSet = WHERE_TO_SET): IpyboxError {
  return new IpyboxError("missing-variable", `${listed(names)} not set`, { hint: whereToSet });
}

const WHERE_TO_SET =
  "Set it in the `env` key of this server's entry in the MCP client's configuration or in the env file (`.env` in the workspace unless --env-file says otherwise), then register again.";

function hiddenError(names: readonly string[]): IpyboxError {
  return new IpyboxError("missing-variable", `${listed(names)} not exposed to placeholders`, {
    hint: "Add it to the server's --expose option.",
  });
}

function listed(names: readonly string[]): string {
  const placeholders = names.map((name) => `\${${name}}`).join(", ");
  return names.length === 1 ? `The variable ${placeholders} is` : `The variables ${placeholders} are`;
}
