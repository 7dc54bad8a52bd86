import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";

import type { Elicit } from "../broker/elicitation.ts";
import { passesThrough } from "../broker/host-paths.ts";
import type { ProcessUser } from "../broker/open-upstream.ts";
import { ToolBroker } from "../broker/tool-broker.ts";
import { IpyboxError } from "../common/errors.ts";
import { ReleaseStack } from "../common/lifecycle.ts";
import type { Logger } from "../common/logger.ts";
import { makeStateDirectory } from "../common/state-directory.ts";
import { within } from "../common/time.ts";
import { HostEgress } from "../egress/host-egress.ts";
import { readText } from "../egress/index-config.ts";
import { PackageInstaller } from "../packages/installer.ts";
import type { ExtraMount, SandboxEngine, SandboxSpec } from "../sandbox/engine.ts";
import { plantEmptyEnvFile } from "../workspace/env-placeholder.ts";
import { WorkspaceCopy } from "../workspace/copy/workspace-copy.ts";
import { readDiskSpace } from "../workspace/disk-space.ts";
import { type ShieldOptions, ShieldRules } from "../workspace/shield-rules.ts";
import { type ShieldBreach, ShieldWatcher } from "../workspace/shield-watcher.ts";
import type { ShieldedPaths } from "../workspace/shielded-paths.ts";
import type { Workspace } from "../workspace/workspace.ts";
import { WorkspaceFiles } from "../workspace/workspace-files.ts";
import { CellFiles } from "./cell-files.ts";
import { LiveSandbox } from "./live-sandbox.ts";
import { Session } from "./session.ts";

interface Variable {
  readonly value: string;
  readonly fromEnvFile: boolean;
}

export interface OpenSessionOptions {
  readonly engine: SandboxEngine;
  readonly workspace: Workspace;
  readonly mounts: readonly ExtraMount[];
  /** What is hidden and protected in the workspace; undefined where the engine can't. */
  readonly shields: ShieldOptions | undefined;
  /** To whom files in the workspace belong. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Undefined where there is no limit of a sandbox's own. */
  readonly memoryLimitBytes: number | undefined;
  readonly stateDir: string;
  readonly home: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Read anew at each registration: the process environment over the env file. */
  readonly variables: () => Promise<ReadonlyMap<string, Variable>>;
  /** Read anew for each kernel. */
  readonly kernelEnvironment: () => Promise<Readonly<Record<string, string>>>;
  readonly upstreams: {
    readonly expose: readonly string[];
    readonly noRedact: readonly string[];
    readonly allowWorkspaceUpstream: boolean;
    readonly whereToSet?: string | undefined;
    readonly processUser?: ProcessUser | undefined;
    /** Undefined while the client can't ask its user. */
    readonly elicitor: () => Elicit | undefined;
  };
  readonly packages: {
    readonly indexUrl: string | undefined;
    readonly extraIndexUrls: readonly string[];
    readonly builds: boolean;
    /** What sandboxes call the workspace besides its own path, if anything. */
    readonly innerPath: string | undefined;
  };
  /** Hosts that sandboxes and their installers may reach. */
  readonly egress: { readonly allowDomain: readonly string[]; readonly allowPrivate: readonly string[] };
  readonly version: string;
  readonly logger: Logger;
}

const MAX_MODULE_BYTES = 16 * 2 ** 20;
const NO_WISHES: ShieldOptions = { mask: [], protect: [], unprotect: [] };
const NOTHING_SHIELDED: ShieldedPaths = { masked: [], protected: [], complete: true };
const CALM_MS = 500;
const CALM_WITHIN_MS = 30_000;

/** Joins the stations of a call for one client. Nothing is started yet; disposing the session ends everything it made. */
export async function openSession(options: OpenSessionOptions): Promise<Session> {
  const { engine, workspace, owner, logger } = options;
  const sessionId = randomBytes(6).toString("hex");
  const workspaceState = join(options.stateDir, "workspaces", workspace.key);
  await makeStateDirectory(workspaceState);

  await using stack = new ReleaseStack();
  const files = stack.use(await WorkspaceFiles.open(workspace.path, { owner }));
  const plantEnvFile = async () => {
    if (options.shields === undefined) return;
    return await plantEmptyEnvFile(files, { stateDir: workspaceState, sessionId });
  };
  const planted = await plantEnvFile();
  if (planted !== undefined) stack.use(planted);

  const rules = new ShieldRules(workspace.path, options.shields);
  const toSpec = (shielded: ShieldedPaths): SandboxSpec => {
    if (!shielded.complete)
      logger.warn("the workspace is too large to look for every .env file in it", { workspace: workspace.path });
    return {
      sessionId,
      workspace: { path: workspace.path, key: workspace.key, masked: shielded.masked, protected: shielded.protected },
      mounts: options.mounts,
    };
  };
  const writableMounts = options.mounts.flatMap((mount) => (mount.readOnly ? [] : [mount.source]));
  const writableDirectories = [workspace.path, ...writableMounts];
  const egress = stack.use(
    new HostEgress({
      ...options.packages,
      ...options.egress,
      env: options.env,
      home: options.home,
      // An activated environment lies in the workspace as a rule, and a cell could plant a pip.conf in it.
      readFile: (path) => (passesThrough(resolve(path), writableDirectories) ? undefined : readText(path)),
      stateDir: options.stateDir,
      isDiskLow: async () => (await readDiskSpace(options.stateDir)).low,
      logger,
    }),
  );

  const sessionEgress = egress.openSession();
  if (sessionEgress !== undefined) stack.use(sessionEgress);

  // The session and its broker know of each other: tools that change are the session's business.
  const changed: { notify?: Session["toolsChanged"] } = {};
  const broker = new ToolBroker({
    ...options.upstreams,
    directory: workspaceState,
    workspace: workspace.path,
    writableDirectories,
    variables: options.variables,
    hostEnvironment: options.env,
    clientInfo: { name: "ipybox", version: options.version },
    fetch: (url, request) => egress.fetch(url, request),
    onToolsChanged: (server, tools) => changed.notify?.(server, tools),
    logger,
  });
  const session = new Session({
    foundation: engine.foundation,
    prepare: ({ signal, onStep }) => engine.prepare({ signal, onProgress: (step) => onStep(describeStep(step)) }),
    openSandbox: (wishes) =>
      openUnbreached({
        signal: wishes.signal,
        watch: async () => {
          await files.renew();
          await plantEnvFile(); // the user may have removed the one before
          return await ShieldWatcher.open(rules, logger);
        },
        open: (shields) =>
          LiveSandbox.open({
            ...wishes,
            engine,
            spec: toSpec(shields.shielded),
            shields,
            egress: sessionEgress && {
              onConnection: (stream) => sessionEgress.accept(stream),
              caBundle: egress.caBundle,
            },
            openCopy: (wire, signal) =>
              WorkspaceCopy.open(
                { workspace: workspace.path, owner, shields: options.shields ?? NO_WISHES, wire },
                signal,
              ),
            kernelEnvironment: async () => ({ ...egress.kernelEnvironment, ...(await options.kernelEnvironment()) }),
            logger,
          }),
      }),
    broker,
    installer: new PackageInstaller({
      workspace: workspace.path,
      stateDir: workspaceState,
      openScratch: () => engine.openScratch(toSpec(NOTHING_SHIELDED)),
      runInstaller: async (args, { seesWorkspace, storage, ...task }) => {
        const installer = { module: "installer", args, seesWorkspace, storage };
        if (!seesWorkspace) return await engine.runTask({ ...toSpec(NOTHING_SHIELDED), ...installer }, task);
        using shields = await ShieldWatcher.open(rules, logger);
        const breached = new AbortController();
        void shields.breached.then((breach) => breached.abort(installBreached(breach)));
        const signal = AbortSignal.any([task.signal, breached.signal]);
        return await engine.runTask({ ...toSpec(shields.shielded), ...installer }, { ...task, signal });
      },
      openEgress: (host, indexes) => egress.openInstaller(host, indexes),
      admitsPrivate: (host, port) => egress.admitsPrivate(host, port),
      indexCount: egress.indexCount,
      builds: options.packages.builds,
      innerPath: options.packages.innerPath,
      logger,
    }),
    stateDir: workspaceState,
    cellFiles: new CellFiles({ files, sessionId, logger }),
    readModule: async (server, module) =>
      (await files.readFile(`mcptools/${server}/${module}.py`, MAX_MODULE_BYTES))?.toString("utf8"),
    memoryLimitBytes: options.memoryLimitBytes,
    readDiskSpace: () => readDiskSpace(workspace.path),
    admitsHost: (host, port) => egress.admits(host, port),
    release: stack.move(),
    logger: logger.child({ session: sessionId }),
  });
  changed.notify = (server, tools) => session.toolsChanged(server, tools);
  return session;
}

interface Opening {
  readonly signal: AbortSignal;
  readonly watch: () => Promise<ShieldWatcher>;
  /** Disposes the watcher with what it opens, or when that fails. */
  readonly open: (shields: ShieldWatcher) => Promise<LiveSandbox>;
}

/** When a mask fell before the sandbox was ready, tries again once nothing changes any more. */
async function openUnbreached({ signal, watch, open }: Opening): Promise<LiveSandbox> {
  const giveUpAt = performance.now() + CALM_WITHIN_MS;
  for (let calmMs = 0; performance.now() < giveUpAt; calmMs = CALM_MS) {
    signal.throwIfAborted();
    const shields = await watch();
    if (calmMs > 0 && (await within(calmMs, shields.breached)) !== undefined) continue;
    try {
      const live = await open(shields);
      if (shields.breach === undefined) return live;
      await live[Symbol.asyncDispose]();
    } catch (error) {
      if (shields.breach === undefined) throw error;
    }
  }
  throw new IpyboxError("sandbox-start-failed", "The workspace's .env files change all the time", {
    hint: "Call again when nothing replaces or adds .env files in the workspace, or move them out with --env-file",
  });
}

function installBreached({ path, what }: ShieldBreach): IpyboxError {
  return new IpyboxError("install-failed", `${path} ${what} in the workspace, which an installer must not see`, {
    hint: "Call again",
  });
}

function describeStep({ message, step }: { message: string; step?: { current: number; total: number } }): string {
  return step === undefined ? message : `[${step.current}/${step.total}] ${message}`;
}
