import { parse } from "dotenv";

import { IpyboxError } from "../common/errors.ts";

export interface Variable {
  readonly value: string;
  readonly fromEnvFile: boolean;
}

const KERNEL_PREFIX = "KERNEL_ENV_";

/** Names that the kernel's own runtime needs; `KERNEL_ENV_PATH` is the exception that users ask for. */
const RESERVED = /^(HOME|USER|LANG|LD_.*|PYTHON.*|JPY_.*|JUPYTER.*|IPYTHON.*|VIRTUAL_ENV)$/;

/**
 * The variables that placeholders and kernels may draw from: the process environment over the env file.
 * The file's `${X}` expand from the file alone, so that it can't read the server's environment; nothing is merged
 * into `process.env`.
 */
export function mergeVariables(
  processEnv: Readonly<Record<string, string | undefined>>,
  envFileText: string | undefined,
): Map<string, Variable> {
  const variables = new Map<string, Variable>();
  for (const [name, value] of Object.entries(expandWithin(parse(envFileText ?? "")))) {
    variables.set(name, { value, fromEnvFile: true });
  }
  for (const [name, value] of Object.entries(processEnv)) {
    if (value !== undefined) variables.set(name, { value, fromEnvFile: false });
  }
  return variables;
}

/**
 * `KERNEL_ENV_X=v` as `X=v`: the whole of what a kernel's environment gets from us. Throws `invalid-configuration`, with
 * a line for each name that can't be.
 */
export function kernelEnvironment(variables: ReadonlyMap<string, Variable>): Record<string, string> {
  const given = [...variables]
    .filter(([name]) => name.startsWith(KERNEL_PREFIX) && name !== KERNEL_PREFIX)
    .map(([name, { value }]) => [name.slice(KERNEL_PREFIX.length), value] as const);
  const reserved = given.map(([name]) => name).filter((name) => RESERVED.test(name));
  if (reserved.length === 0) return Object.fromEntries(given);
  const problems = reserved.map(
    (name) => `${KERNEL_PREFIX}${name}: the kernel's runtime needs ${name}, it can't be overridden`,
  );
  throw new IpyboxError("invalid-configuration", problems.join("\n"), {
    hint: `Remove ${reserved.map((name) => KERNEL_PREFIX + name).join(", ")} from the environment and from the env file.`,
  });
}

/** Expands `${X}` and `${X:-default}` from `values` themselves; an unknown name is empty, a cycle stays as written. */
function expandWithin(values: Readonly<Record<string, string>>): Record<string, string> {
  const expand = (text: string, open: ReadonlySet<string>): string =>
    text.replace(
      /(\\)?\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g,
      (whole: string, escaped: string | undefined, name: string, fallback: string | undefined) => {
        if (escaped !== undefined) return whole.slice(1);
        if (open.has(name)) return whole;
        const value = values[name];
        return value !== undefined && value !== "" ? expand(value, new Set([...open, name])) : (fallback ?? "");
      },
    );
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, expand(value, new Set([name]))]));
}
