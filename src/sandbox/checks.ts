import { randomBytes } from "node:crypto";
import { IpyboxError, messageOf } from "../common/errors.ts";
import { formatDuration } from "../common/time.ts";
import { readCaBundle } from "./build-host.ts";
import type { Diagnosis, DiagnosedWorkspace } from "./engine-admin.ts";
import type { SandboxEngine } from "./engine.ts";

/** What a check found; one that throws has failed, with the error's own remedy or else the one given. */
export async function attemptCheck(name: string, check: () => Promise<Diagnosis>, remedy: string): Promise<Diagnosis> {
  try {
    return await check();
  } catch (error) {
    const hint = error instanceof IpyboxError ? error.hint : undefined;
    return { name, status: "fail", detail: messageOf(error), remedy: hint ?? remedy };
  }
}

/** Which certificates count where packages come from; `use` says in words what for. */
export async function checkCertificates(
  use: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Diagnosis> {
  const bundle = await readCaBundle(env);
  const detail = `${use} ${bundle.sources.join(", ")}`;
  if (bundle.unreadable.length === 0) return { name: "certificates", status: "ok", detail };
  return {
    name: "certificates",
    status: "warn",
    detail: `${detail}; can't be read: ${bundle.unreadable.join(", ")}`,
    remedy: "Check NODE_EXTRA_CA_CERTS, SSL_CERT_FILE and REQUESTS_CA_BUNDLE.",
  };
}

/** Starts a sandbox over the workspace, in which nothing is run, and removes it. A workspace that can't be is told elsewhere. */
export async function checkLink(
  engine: Pick<SandboxEngine, "launch">,
  workspace: DiagnosedWorkspace | undefined,
  signal: AbortSignal,
): Promise<Diagnosis> {
  if (workspace === undefined) return notTried("there is no workspace", "Give one with --workspace.");
  const startedAt = performance.now();
  const spec = {
    sessionId: randomBytes(8).toString("hex"),
    workspace: { ...workspace, masked: [], protected: [] },
    mounts: [],
  };
  const sandbox = await engine.launch(spec, { signal, onBridgeConnection: (stream) => stream.destroy() });
  await sandbox[Symbol.asyncDispose]();
  const means = { socket: "sockets in a shared directory", exec: "one stream each way" }[sandbox.link];
  const duration = formatDuration(performance.now() - startedAt);
  const detail = `${sandbox.link}: a sandbox started and answered over ${means} in ${duration}`;
  return { name: "link", status: "ok", detail };
}

/** Where a sandbox can't be started yet. */
export const LINK_NOT_TRIED = notTried("what a sandbox needs is not there yet", "Run `ipybox build`.");

function notTried(why: string, remedy: string): Diagnosis {
  return { name: "link", status: "warn", detail: `not tried: ${why}`, remedy };
}
