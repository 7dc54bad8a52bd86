import { formatDuration } from "../../common/time.ts";
import { readCaBundle } from "../build-host.ts";
import { attemptCheck } from "../attempt-check.ts";
import type { Diagnosis } from "../engine-admin.ts";
import { findPython, findUv } from "./find-programs.ts";
import { type EnvironmentOptions, environmentOf, isMade } from "./python-environment.ts";

export interface DiagnosisOptions extends EnvironmentOptions {
  /** What this engine's walls are, and what they are made of. */
  readonly walls: () => Promise<readonly Diagnosis[]>;
  /** Starts a sandbox and removes it; rejects when that fails. Tried only where the environment is there. */
  readonly trySandbox: () => Promise<void>;
  readonly signal: AbortSignal;
}

/** What `ipybox doctor` says about an engine without containers. Never rejects: what can't be checked is a failure. */
export async function diagnose(options: DiagnosisOptions): Promise<Diagnosis[]> {
  const walls = await options.walls();
  const python = await attempt("python", () => checkPython(options));
  return [
    ...walls,
    {
      name: "limits",
      status: "warn",
      detail: "memory, CPU, processes and temporary files are not limited by this engine",
      remedy: "Use --sandbox docker where a cell must not be able to exhaust this machine.",
    },
    await attempt("certificates", () => checkCertificates(options)),
    python,
    python.status === "ok" && walls.every(({ status }) => status !== "fail")
      ? await attempt("link", () => checkLink(options))
      : {
          name: "link",
          status: "warn",
          detail: "not tried: what it needs is not there yet",
          remedy: "Run `ipybox build`.",
        },
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

async function checkCertificates({ env }: DiagnosisOptions): Promise<Diagnosis> {
  const bundle = await readCaBundle(env);
  const detail = `packages are fetched trusting ${bundle.sources.join(", ")}`;
  if (bundle.unreadable.length === 0) return { name: "certificates", status: "ok", detail };
  return {
    name: "certificates",
    status: "warn",
    detail: `${detail}; can't be read: ${bundle.unreadable.join(", ")}`,
    remedy: "Check NODE_EXTRA_CA_CERTS, SSL_CERT_FILE and REQUESTS_CA_BUNDLE.",
  };
}

async function checkLink({ trySandbox }: DiagnosisOptions): Promise<Diagnosis> {
  const startedAt = performance.now();
  await trySandbox();
  const duration = formatDuration(performance.now() - startedAt);
  return { name: "link", status: "ok", detail: `a sandbox started and answered over its sockets in ${duration}` };
}
