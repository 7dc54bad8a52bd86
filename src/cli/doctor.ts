import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { openEngine } from "../app.ts";
import { cleanPath, passesThrough } from "../broker/host-paths.ts";
import { IpyboxError } from "../common/errors.ts";
import { withHostLock } from "../common/host-lock.ts";
import { stateDirectory } from "../config/directories.ts";
import type { Config } from "../config/options.ts";
import { hasShields } from "../choose-engine.ts";
import { askIndexes } from "../egress/ask-indexes.ts";
import { readText } from "../egress/index-config.ts";
import { openConfiguredWorkspace } from "../ground.ts";
import type { Diagnosis } from "../sandbox/engine-admin.ts";
import { findEnvExposure } from "../workspace/env-exposure.ts";
import type { Workspace } from "../workspace/workspace.ts";
import type { Invocation } from "./invocation.ts";

const MARKS = { ok: "ok  ", warn: "warn", fail: "fail" } as const;

/** Checks what ipybox needs, a line each with its remedy; exit code 1 when something fails. */
export async function doctor({ config, own }: Invocation): Promise<number> {
  await using engine = await openEngine(config);
  const workspace = await openConfiguredWorkspace(config).catch(asRefusal);
  const found = workspace instanceof IpyboxError ? undefined : workspace;
  const diagnoses = [
    ...(await engine.diagnose(found)),
    await diagnoseRegistries(config, found),
    await diagnoseState(),
    workspace instanceof IpyboxError ? diagnosisOf("workspace", workspace) : await diagnoseEnvFiles(config, workspace),
  ];
  if (own["json"] !== undefined) process.stdout.write(`${JSON.stringify(diagnoses, null, 2)}\n`);
  else {
    for (const { name, status, detail, remedy } of diagnoses) {
      process.stdout.write(
        `${MARKS[status]}  ${name}: ${detail}\n${remedy === undefined ? "" : `      → ${remedy}\n`}`,
      );
    }
  }
  return diagnoses.some(({ status }) => status === "fail") ? 1 : 0;
}

/** Who looks for what is wrong may stand anywhere, in `$HOME` for example: everything else is checked all the same. */
function asRefusal(error: unknown): IpyboxError {
  if (error instanceof IpyboxError) return error;
  throw error;
}

function diagnosisOf(name: string, { message, hint }: IpyboxError): Diagnosis {
  return { name, status: "fail", detail: message, remedy: hint ?? `Give another ${name}` };
}

/** Where packages come from. The registry of images is asked only while there is no image: see the engine's own checks. */
async function diagnoseRegistries(config: Config, workspace: Workspace | undefined): Promise<Diagnosis> {
  const name = "registries";
  const writable = workspace === undefined ? [] : [workspace.path];
  const answers = await askIndexes({
    indexUrl: config.indexUrl,
    extraIndexUrls: config.extraIndexUrl,
    env: process.env,
    home: homedir(),
    readFile: (path) => (passesThrough(resolve(path), writable) ? undefined : readText(path)),
  }).catch(asRefusal);
  if (answers instanceof IpyboxError) return diagnosisOf(name, answers);
  const working = answers.flatMap(({ url, problem }) => (problem === undefined ? [url] : []));
  const problems = answers.flatMap(({ url, problem }) => (problem === undefined ? [] : [`${url} ${problem}`]));
  const detail = [...(working.length === 0 ? [] : [`packages come from ${working.join(", ")}`]), ...problems].join(
    "; ",
  );
  if (problems.length === 0) return { name, status: "ok", detail };
  return {
    name,
    status: "warn",
    detail,
    remedy:
      "Check --index-url, --extra-index-url, pip's configuration and HTTPS_PROXY; without an index nothing can be installed.",
  };
}

async function diagnoseState(): Promise<Diagnosis> {
  const [name, path] = ["state", stateDirectory(process.env)];
  const problem = await withHostLock(join(path, "doctor"), {}, () => Promise.resolve(undefined)).catch(asRefusal);
  return problem === undefined ? { name, status: "ok", detail: `${path} can be written` } : diagnosisOf(name, problem);
}

async function diagnoseEnvFiles(config: Config, { path }: Workspace): Promise<Diagnosis> {
  const host = process.env["PATH"];
  const { files, tracked } = await findEnvExposure(path, host === undefined ? undefined : cleanPath(host, [path]));
  const name = "env files";
  if (tracked.length > 0) {
    return {
      name,
      status: "warn",
      detail: `tracked by git, so cells can read their content in .git: ${tracked.join(", ")}`,
      remedy: "Take them out of the repository (git rm --cached), change their secrets, and name one with --env-file.",
    };
  }
  if (files.length === 0) return { name, status: "ok", detail: "none with content in the workspace" };
  return {
    name,
    status: "warn",
    detail: `${hasShields(config) ? "hidden from cells while their masks hold" : "cells can read these"}: ${files.join(", ")}`,
    remedy: "Keep secrets outside the workspace and name their file with --env-file.",
  };
}
