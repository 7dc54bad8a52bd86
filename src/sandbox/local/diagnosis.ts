import { attemptCheck, checkCertificates, LINK_NOT_TRIED } from "../checks.ts";
import type { Diagnosis } from "../engine-admin.ts";
import { findPython, findUv } from "./find-programs.ts";
import { type EnvironmentOptions, environmentOf, isMade } from "./python-environment.ts";

export interface DiagnosisOptions extends EnvironmentOptions {
  /** What this engine's walls and limits are. */
  readonly walls: () => Promise<readonly Diagnosis[]>;
  /** Starts a sandbox and removes it. Tried only where the environment is there. */
  readonly checkLink: () => Promise<Diagnosis>;
  readonly signal: AbortSignal;
}

/** What `ipybox doctor` says about an engine without containers. Never rejects: what can't be checked is a failure. */
export async function diagnose(options: DiagnosisOptions): Promise<Diagnosis[]> {
  const walls = await options.walls();
  const python = await attempt("python", () => checkPython(options));
  return [
    ...walls,
    await attempt("certificates", () => checkCertificates("packages are fetched trusting", options.env)),
    python,
    python.status === "ok" && walls.every(({ status }) => status !== "fail")
      ? await attempt("link", options.checkLink)
      : LINK_NOT_TRIED,
  ];
}

function attempt(name: string, check: () => Promise<Diagnosis>): Promise<Diagnosis> {
  return attemptCheck(name, check, "See the log of ipybox.");
}

async function checkPython(options: DiagnosisOptions): Promise<Diagnosis> {
  const environment = await environmentOf(options);
  if (await isMade(environment)) return { name: "python", status: "ok", detail: `${environment.directory} is there` };
  const env = { PATH: options.env["PATH"] ?? "" };
  const maker = findUv(env) ?? (await findPython(env, options.signal));
  return {
    name: "python",
    status: "warn",
    detail: `${environment.directory} is not made yet; ${maker} can make it`,
    remedy: "Run `ipybox build`, or let the first start make it.",
  };
}
