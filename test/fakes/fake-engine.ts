import { createServer, type RequestListener } from "node:http";
import type { Duplex } from "node:stream";
import { IpyboxError } from "../../src/common/errors.ts";
import { Deferred } from "../../src/common/lifecycle.ts";
import type {
  LaunchOptions,
  PrepareOptions,
  Sandbox,
  SandboxEngine,
  SandboxExit,
  SandboxSpec,
  Scratch,
  TaskOptions,
  TaskResult,
  TaskSpec,
} from "../../src/sandbox/engine.ts";
import { orAborted } from "../../src/common/or-aborted.ts";
import { duplexPair } from "./duplex-pair.ts";

export interface FakeEngineOptions {
  /** The gateway's end of a stream that the host took. By default an HTTP server that says hello on `/ipybox/events`. */
  readonly onGatewayStream?: (stream: Duplex, sandbox: FakeSandbox) => void;
  /** What a task does. By default it fails as Python does for a module that is not there. */
  readonly onTask?: (spec: TaskSpec, options: TaskOptions) => Promise<TaskResult>;
  /** Runs before each launch; throw to make it fail, return a promise to hold it up. */
  readonly onLaunch?: (spec: SandboxSpec) => Promise<void> | void;
  readonly onPrepare?: (options: PrepareOptions) => Promise<void> | void;
}

/** An engine without containers: each sandbox is a pair of stream ends for every connection. Keeps the engine contract. */
export class FakeEngine implements SandboxEngine {
  readonly foundation = "kernel image";
  /** Everything launched so far, ended or not. */
  readonly sandboxes: FakeSandbox[] = [];
  readonly #options: FakeEngineOptions;
  #closed = false;

  constructor(options: FakeEngineOptions = {}) {
    this.#options = options;
  }

  async prepare(options: PrepareOptions): Promise<void> {
    options.signal.throwIfAborted();
    await this.#options.onPrepare?.(options);
  }

  async launch(spec: SandboxSpec, options: LaunchOptions): Promise<Sandbox> {
    options.signal.throwIfAborted();
    if (this.#closed) throw new IpyboxError("sandbox-gone", "The engine is shutting down");
    await orAborted(Promise.resolve(this.#options.onLaunch?.(spec)), options.signal);
    const sandbox = new FakeSandbox(spec, options, this.#options.onGatewayStream ?? serveEvents());
    this.sandboxes.push(sandbox);
    return sandbox;
  }

  openScratch(): Promise<Scratch> {
    return Promise.resolve({ name: "scratch", [Symbol.asyncDispose]: () => Promise.resolve() });
  }

  async runTask(spec: TaskSpec, options: TaskOptions): Promise<TaskResult> {
    options.signal.throwIfAborted();
    return await orAborted((this.#options.onTask ?? failTask)(spec, options), options.signal);
  }

  reapOrphans(): Promise<number> {
    return Promise.resolve(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const sandbox of this.sandboxes) await sandbox[Symbol.asyncDispose]();
  }
}

export class FakeSandbox implements Sandbox {
  readonly id: string;
  readonly spec: SandboxSpec;
  readonly workspacePath: string;
  readonly link = "socket";
  readonly #options: LaunchOptions;
  readonly #onGatewayStream: (stream: Duplex, sandbox: FakeSandbox) => void;
  readonly #streams = new Set<Duplex>();
  readonly #exit = new Deferred<SandboxExit>();
  #gone = false;

  constructor(
    spec: SandboxSpec,
    options: LaunchOptions,
    onGatewayStream: (stream: Duplex, sandbox: FakeSandbox) => void,
  ) {
    this.id = spec.sessionId;
    this.spec = spec;
    this.workspacePath = spec.workspace.path;
    this.#options = options;
    this.#onGatewayStream = onGatewayStream;
  }

  get exited(): Promise<SandboxExit> {
    return this.#exit.promise;
  }

  connectGateway(options: { readonly signal: AbortSignal }): Promise<Duplex> {
    if (options.signal.aborted) return Promise.reject(options.signal.reason as Error);
    if (this.#gone) return Promise.reject(new IpyboxError("sandbox-gone", "The sandbox has ended"));
    const [hostEnd, gatewayEnd] = this.#pair();
    this.#onGatewayStream(gatewayEnd, this);
    return Promise.resolve(hostEnd);
  }

  /** How often it was paused. */
  pauses = 0;

  pause(): Promise<void> {
    this.pauses += 1;
    return Promise.resolve();
  }

  tailLogs(lines: number): Promise<string> {
    return Promise.resolve(["fake sandbox started"].slice(-lines).join("\n"));
  }

  /** What code in the kernel does: a new connection to the bridge. Returns the kernel's end. */
  dialBridge(): Duplex {
    const [hostEnd, kernelEnd] = this.#pair();
    this.#options.onBridgeConnection(hostEnd);
    return kernelEnd;
  }

  /** The sandbox ends by itself. */
  end(exit: SandboxExit): void {
    this.#gone = true;
    for (const stream of this.#streams) stream.destroy();
    this.#exit.resolve(exit);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.end({ code: undefined, outOfMemory: false });
    return Promise.resolve();
  }

  #pair(): [Duplex, Duplex] {
    const pair = duplexPair();
    for (const stream of pair) {
      this.#streams.add(stream);
      stream.on("error", () => undefined);
      stream.once("close", () => this.#streams.delete(stream));
    }
    return pair;
  }
}

/** A gateway of one route, as much as the engine contract needs. */
function serveEvents(): (stream: Duplex) => void {
  const listener: RequestListener = (request, response) => {
    response.statusCode = request.url === "/ipybox/events" ? 200 : 404;
    response.write('{"event":"hello"}\n');
  };
  const server = createServer(listener);
  return (stream) => void server.emit("connection", stream);
}

function failTask(spec: TaskSpec, options: TaskOptions): Promise<TaskResult> {
  options.onOutput(`No module named ipybox_sandbox.${spec.module}\n`);
  return Promise.resolve({ code: 1, outOfMemory: false });
}
