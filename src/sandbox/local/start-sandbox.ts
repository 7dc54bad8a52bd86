import { userInfo } from "node:os";
import { delimiter, dirname } from "node:path";
import { IpyboxError, messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { currentProcess, identityOf } from "../../common/process-identity.ts";
import { startFromHostSide } from "../host-side.ts";
import type { SandboxPlan, StartedSandbox } from "../launcher.ts";
import { removeRunDirectory, type RunRoot } from "../link/run-directory.ts";
import type { LogTail } from "../log-tail.ts";
import type { Confinement, View } from "./confinement.ts";
import { type InitCommand, InitProcess } from "./init-process.ts";
import { isOther, makePlaces, type Places, type SandboxUser } from "./places.ts";
import type { PythonEnvironment } from "./python-environment.ts";
import type { SandboxRecords } from "./sandbox-records.ts";

export interface StartOptions {
  readonly confinement: Confinement;
  readonly environment: PythonEnvironment;
  /** The packages of the workspace. */
  readonly packages: string;
  readonly runRoot: RunRoot;
  readonly records: SandboxRecords;
  /** Hidden from every sandbox, but for its own environment and packages. */
  readonly stateDir: string;
  /** Where programs are looked for inside, behind the environment's own. */
  readonly path: string;
  readonly user: SandboxUser;
  /** Sessions get no sockets but those of this machine. */
  readonly noInet: boolean;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** Makes directories, starts init over the link of the confinement, and notes that it runs. */
export function startSandbox(plan: SandboxPlan, options: StartOptions): Promise<StartedSandbox> {
  const { confinement, environment, packages, runRoot, user, noInet, signal, logger } = options;
  const hostSide = { link: confinement.link, runRoot, owner: user, logger };
  return startFromHostSide(plan, hostSide, async ({ runDirectory, dock, link, log }, stack) => {
    const places = await makePlaces(runDirectory, user);
    stack.defer(() => removeRunDirectory(places.directory));
    signal.throwIfAborted();
    const command = [
      ...[environment.python, "-I", "-m", "ipybox_sandbox.init"],
      link.crossing.type === "socket" ? `--run=${runDirectory}` : "--relay=loopback",
      ...[`--kernels=${places.kernels}`, `--packages=${packages}`],
      ...(plan.storage?.scratch ? [`--scratch=${plan.storage.scratch.name}`] : []),
      ...(noInet && plan.role === "session" ? ["--no-inet"] : []),
    ];
    const confined = await confinement.confine(command, viewOf(plan, { places, outside: runDirectory }, options));
    signal.throwIfAborted();
    const init = await startInit(
      {
        command: confined,
        piped: link.carry !== undefined,
        cwd: plan.spec.workspace.path,
        env: environmentOf(places, options),
        user: isOther(user) ? user : undefined,
      },
      log,
    );
    // Before its orders are given there is nothing below it; then, the end of its lifeline takes everything along.
    let ordered = false;
    void dock.control.then(() => (ordered = true));
    stack.defer(async () => {
      dock[Symbol.dispose]();
      if (!ordered) init.kill();
      await init.ended();
    });
    if (init.carrier) link.carry?.(init.carrier);
    stack.use(
      await options.records.add({
        id: plan.id,
        engine: confinement.engine,
        session: plan.spec.sessionId,
        role: plan.role,
        workspace: plan.spec.workspace.path,
        environment: environment.directory,
        directory: places.directory,
        startedAt: Date.now(),
        owner: currentProcess(),
        init: identityOf(init.pid),
      }),
    );
    return {
      exited: init.exited,
      // Nothing of it is to run any further: there is no better way without a container.
      pause: async () => {
        dock[Symbol.dispose]();
        await init.ended();
      },
    };
  });
}

/** What a sandbox has to do with: a session the workspace, an installer the packages or a scratch. */
function viewOf(
  { role, spec, storage }: SandboxPlan,
  { places, outside }: { places: Places; outside: string },
  options: StartOptions,
): View {
  const { workspace, mounts } = spec;
  const writable = mounts.filter(({ readOnly }) => !readOnly).map(({ source }) => source);
  const scratches = storage?.scratch ? [storage.scratch.name] : [];
  const stores = storage === undefined ? [] : storage.writes === "packages" ? [options.packages] : scratches;
  return {
    directory: places.directory,
    outside,
    writable: [places.directory, ...(role === "session" ? [workspace.path, ...writable] : stores)],
    readOnly: role === "session" ? workspace.protected : [],
    hidden: [...workspace.masked, options.stateDir, dirname(places.directory)],
    visible: [options.environment.directory, options.packages, ...scratches],
  };
}

async function startInit(command: InitCommand, log: LogTail): Promise<InitProcess> {
  try {
    return await InitProcess.start(command, log);
  } catch (cause) {
    throw new IpyboxError("sandbox-start-failed", `The sandbox can't be started: ${messageOf(cause)}`, {
      hint: "Call again; `ipybox doctor` checks the Python environment and who may use it.",
      cause,
    });
  }
}

/** Nothing of the server's own but where programs are. */
function environmentOf(places: Places, { environment, path, user }: StartOptions): Record<string, string> {
  return {
    PATH: [dirname(environment.python), path].filter((entry) => entry !== "").join(delimiter),
    HOME: places.home,
    TMPDIR: places.tmp,
    USER: isOther(user) ? "ipybox" : userInfo().username,
    LANG: "C.UTF-8",
  };
}
