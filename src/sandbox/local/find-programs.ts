import { IpyboxError } from "../../common/errors.ts";
import { findOnPath } from "../../common/executables.ts";
import { CommandFailure, runCommand } from "./run-command.ts";

type Environment = Readonly<Record<string, string>>;

/** Prints what to start later; a venv module without ensurepip, as Debian splits it, makes no environment. */
const CHECK =
  "import sys, ensurepip, venv; (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.exit(1); print(sys.executable)";
const PYTHONS = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"];

/** The user's uv, if there is one on PATH. */
export function findUv(env: Environment): string | undefined {
  return findOnPath("uv", env["PATH"]);
}

/** A Python that can make environments for kernels. Rejects with `environment-build-failed` when there is none. */
export async function findPython(env: Environment, signal: AbortSignal): Promise<string> {
  for (const name of PYTHONS) {
    const program = findOnPath(name, env["PATH"]);
    if (program === undefined) continue;
    try {
      return (await runCommand([program, "-I", "-c", CHECK], { env, signal })).trim();
    } catch (error) {
      if (!(error instanceof CommandFailure)) throw error; // else it is of another version, or incomplete
    }
  }
  throw new IpyboxError(
    "environment-build-failed",
    "There is neither uv nor a Python 3.11 to 3.14 with its venv module",
    {
      hint: "Install uv (https://docs.astral.sh/uv/), or Python (on Debian and Ubuntu: apt-get install python3-venv).",
    },
  );
}
