import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import type { Elicit } from "../broker/elicitation.ts";
import { ToolBroker } from "../broker/tool-broker.ts";
import { ReleaseStack } from "../common/lifecycle.ts";
import type { Logger } from "../common/logger.ts";
import { HostEgress } from "../egress/host-egress.ts";
import { PackageInstaller } from "../packages/installer.ts";
import type { ExtraMount, SandboxEngine, SandboxSpec } from "../sandbox/engine.ts";
import { plantEmptyEnvFile } from "../workspace/env-placeholder.ts";
import { findShieldedPaths, type ShieldOptions } from "../workspace/shielded-paths.ts";
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
  readonly shields: ShieldOptions;
  /** To whom files in the workspace belong. */
  readonly owner: { readonly uid: number; readonly gid: number };
  readonly memoryLimitBytes: number;
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
    readonly elicit: Elicit | undefined;
  };
  readonly packages: {
    readonly indexUrl: string | undefined;
    readonly extraIndexUrls: readonly string[];
    readonly allowPrivate: readonly string[];
  };
  readonly version: string;
  readonly logger: Logger;
}

const MAX_MODULE_BYTES = 16 * 2 ** 20;

/** Joins the stations of a call for one client. Nothing is started yet; disposing the session ends everything it made. */
export async function openSession(options: OpenSessionOptions): Promise<Session> {
  const { engine, workspace, owner, logger } = options;
  const sessionId = randomBytes(6).toString("hex");
  const workspaceState = join(options.stateDir, "workspaces", workspace.key);
  await mkdir(workspaceState, { recursive: true, mode: 0o700 });

  await using stack = new ReleaseStack();
  const files = stack.use(await WorkspaceFiles.open(workspace.path, { owner }));
  stack.use(await plantEmptyEnvFile(workspace.path, { stateDir: workspaceState, sessionId, owner }));

  const spec = async (): Promise<SandboxSpec> => {
    const shielded = await findShieldedPaths(workspace.path, options.shields);
    if (!shielded.complete)
      logger.warn("the workspace is too large to look for every .env file in it", { workspace: workspace.path });
    return {
      sessionId,
      workspace: { path: workspace.path, key: workspace.key, masked: shielded.masked, protected: shielded.protected },
      mounts: options.mounts,
    };
  };
  const egress = stack.use(
    new HostEgress({ ...options.packages, env: options.env, home: options.home, stateDir: options.stateDir, logger }),
  );

  // The session and its broker know of each other: tools that change are the session's business.
  const changed: { notify?: Session["toolsChanged"] } = {};
  const broker = new ToolBroker({
    ...options.upstreams,
    directory: workspaceState,
    workspace: workspace.path,
    writableDirectories: [workspace.path, ...options.mounts.flatMap((mount) => (mount.readOnly ? [] : [mount.source]))],
    variables: options.variables,
    hostEnvironment: options.env,
    clientInfo: { name: "ipybox", version: options.version },
    onToolsChanged: (server, tools) => changed.notify?.(server, tools),
    logger,
  });
  const session = new Session({
    prepare: ({ signal, onStep }) => engine.prepare({ signal, onProgress: (step) => onStep(describeStep(step)) }),
    openSandbox: async ({ signal, onBridgeConnection }) =>
      LiveSandbox.open({
        engine,
        spec: await spec(),
        kernelEnvironment: options.kernelEnvironment,
        onBridgeConnection,
        signal,
        logger,
      }),
    broker,
    installer: new PackageInstaller({
      workspace: workspace.path,
      stateDir: workspaceState,
      runInstaller: async (args, task) => engine.runTask({ ...(await spec()), module: "installer", args }, task),
      openEgress: (target) => egress.openInstaller(target),
      indexCount: egress.indexCount,
      logger,
    }),
    cellFiles: new CellFiles({ files, sessionId, logger }),
    readModule: async (server, module) =>
      (await files.readFile(`mcptools/${server}/${module}.py`, MAX_MODULE_BYTES))?.toString("utf8"),
    memoryLimitBytes: options.memoryLimitBytes,
    release: stack.move(),
    logger: logger.child({ session: sessionId }),
  });
  changed.notify = (server, tools) => session.toolsChanged(server, tools);
  return session;
}

function describeStep({ message, step }: { message: string; step?: { current: number; total: number } }): string {
  return step === undefined ? message : `[${step.current}/${step.total}] ${message}`;
}
