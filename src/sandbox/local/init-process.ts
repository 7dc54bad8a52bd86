import { type ChildProcess, spawn } from "node:child_process";
import { StringDecoder } from "node:string_decoder";
import { Deferred } from "../../common/lifecycle.ts";
import { within } from "../../common/time.ts";
import type { SandboxExit } from "../engine.ts";
import type { Carrier } from "../link/multiplexer.ts";
import type { LogTail } from "../log-tail.ts";

export interface InitCommand {
  readonly command: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Another user than the server's, which then must be allowed to become it. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** Its stdin and stdout are left to the caller, see {@link InitProcess.carrier}. */
  readonly piped: boolean;
}

/** How long init may take to end what it started. */
const END_TIMEOUT_MS = 2000;

/** The first process of a sandbox on this host, in a session of its own. */
export class InitProcess {
  readonly #child: ChildProcess;
  readonly #exited = new Deferred<SandboxExit>();

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Rejects when the program can't be started; what it writes goes to `log`. */
  static async start(init: InitCommand, log: LogTail): Promise<InitProcess> {
    const [program = "", ...args] = init.command;
    const child = spawn(program, args, {
      env: init.env,
      cwd: init.cwd,
      detached: true, // an interrupt at the terminal is the server's business
      stdio: [init.piped ? "pipe" : "ignore", "pipe", "pipe"],
      ...init.user,
    });
    const started = new InitProcess(child);
    const failed = new Deferred<never>();
    child.on("error", failed.reject); // also of a signal that could not be sent, much later
    child.once("exit", (code) => started.#exited.resolve({ code: code ?? undefined, outOfMemory: false }));
    for (const stream of init.piped ? [child.stderr] : [child.stdout, child.stderr]) {
      const decoder = new StringDecoder("utf8");
      stream?.on("data", (chunk: Buffer) => log.append(decoder.write(chunk)));
    }
    const spawned = new Promise<undefined>((resolve) => child.once("spawn", () => resolve(undefined)));
    await Promise.race([spawned, failed.promise]);
    return started;
  }

  get pid(): number {
    return this.#child.pid ?? 0; // it has been started
  }

  /** Undefined unless it was started with pipes. */
  get carrier(): Carrier | undefined {
    const { stdin, stdout } = this.#child;
    return stdin === null || stdout === null ? undefined : { incoming: stdout, outgoing: stdin };
  }

  get exited(): Promise<SandboxExit> {
    return this.#exited.promise;
  }

  /** Ends it together with its process group, which is all there is before it has its orders. */
  kill(): void {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch {
      this.#child.kill("SIGKILL"); // the group is gone, or another user's
    }
  }

  /** Waits for the end that closing the lifeline brings, which takes every process below along; makes it come else. */
  async ended(): Promise<void> {
    if ((await within(END_TIMEOUT_MS, this.exited)) !== undefined) return;
    this.kill();
    await within(END_TIMEOUT_MS, this.exited);
  }
}
