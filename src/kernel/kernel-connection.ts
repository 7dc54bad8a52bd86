import { randomUUID } from "node:crypto";

import type { WebSocket } from "ws";

import { IpyboxError } from "../common/errors.ts";
import { Deferred } from "../common/lifecycle.ts";
import { withTimeout } from "../common/time.ts";
import { type DeathCause, Execution, type ExecutionOptions } from "./execution.ts";
import type { GatewayClient, StartKernelOptions } from "./gateway-client.ts";
import { LateOutput } from "./late-output.ts";
import { decodeMessage, encodeRequest, type KernelMessage, type KernelRequest, statusShape } from "./messages.ts";

const START_TIMEOUT_MS = 60_000;
const FORGET_TIMEOUT_MS = 1_500;
const FENCE_DELAY_MS = 250;
/** The news of a kernel's end and the end of its connection travel on two streams: how long one waits for the other. */
const OTHER_NEWS_MS = 750;
/**
 * The gateway takes leave of a connection. One that just ends has gone with its sandbox, whose end the engine reports,
 * with the cause: in time for an answer within 2 s, or it is not waited for.
 */
const SANDBOX_NEWS_MS = 1_800;
const NO_LEAVE_TAKEN = 1006; // RFC 6455, 7.4.1

/** A running kernel and our WebSocket to it. It runs one cell at a time; the caller queues. */
export class KernelConnection {
  readonly id: string;
  readonly #gateway: GatewayClient;
  readonly #socket: WebSocket;
  readonly #session = randomUUID();
  #requests = 0;
  readonly #executions = new Map<string, Execution>();
  readonly #late = new LateOutput();
  /** Message id of a request whose reply is waited for → what to do then. */
  readonly #answers = new Map<string, () => void>();
  /** Message id of a fence → the execution that it decides about. */
  readonly #fences = new Map<string, Execution>();
  /** Known before the kernel counts as dead: output may still be on its way. */
  #cause: DeathCause | undefined;
  #closed = false;
  #death: DeathCause | undefined;

  private constructor(id: string, gateway: GatewayClient, socket: WebSocket) {
    this.id = id;
    this.#gateway = gateway;
    this.#socket = socket;
  }

  /** Starts a kernel and resolves when it answers; a kernel that does not is killed. */
  static async start(gateway: GatewayClient, options: StartKernelOptions): Promise<KernelConnection> {
    const signal = withTimeout(START_TIMEOUT_MS, options.signal);
    const id = await gateway.startKernel({ ...options, signal });
    try {
      const connection = new KernelConnection(id, gateway, await gateway.openChannels(id, signal));
      connection.#listen();
      await connection.#answer(signal);
      return connection;
    } catch (error) {
      await gateway.killKernel(id, FORGET_TIMEOUT_MS).catch(() => undefined); // the first error says more
      throw error;
    }
  }

  /** Undefined while the kernel lives. */
  get death(): DeathCause | undefined {
    return this.#death;
  }

  /** Whether the kernel, between two cells, answers within the time: it may have been stopped from inside. */
  async answers(timeoutMs: number): Promise<boolean> {
    if (this.#death !== undefined) return false;
    return this.#answer(AbortSignal.timeout(timeoutMs)).then(
      () => true,
      () => false,
    );
  }

  execute(code: string, options: ExecutionOptions): Execution {
    const execution = new Execution(options);
    if (this.#death !== undefined) {
      execution.die(this.#death);
      return execution;
    }
    const request = this.#request("execute_request", {
      code,
      silent: false,
      store_history: true,
      user_expressions: {},
      allow_stdin: false,
      stop_on_error: false,
    });
    for (const message of this.#late.take()) execution.handle(message);
    this.#executions.set(request.id, execution);
    void execution.done.finally(() => this.#executions.delete(request.id));
    this.#socket.send(encodeRequest(request, this.#session));
    return execution;
  }

  /** Rejects when the gateway does not take the request within the time. */
  interrupt(timeoutMs: number): Promise<void> {
    return this.#gateway.interruptKernel(this.id, timeoutMs);
  }

  /** Kills the kernel and its process tree; running executions end as died. Rejects as {@link interrupt} does. */
  async kill(timeoutMs: number): Promise<void> {
    this.markDead({ type: "signal", signal: "SIGKILL" });
    await this.#gateway.killKernel(this.id, timeoutMs);
  }

  /**
   * The gateway says that the kernel has ended. It passes on what the kernel had sent and then closes the connection:
   * that is when all output is here.
   */
  announceExit(cause: DeathCause): void {
    this.#cause ??= cause;
    if (this.#closed) this.markDead(cause);
    else this.#markDeadAfter(OTHER_NEWS_MS, cause);
  }

  /** The kernel is gone, and nothing of it is to be waited for: running executions end, later messages are dropped. */
  markDead(cause: DeathCause): void {
    if (this.#death !== undefined) return;
    this.#death = cause;
    this.#socket.terminate();
    for (const execution of this.#executions.values()) execution.die(cause);
    this.#executions.clear();
    this.#fences.clear();
  }

  #request(type: string, content: KernelRequest["content"]): KernelRequest {
    this.#requests += 1;
    return { channel: "shell", id: `${this.#session}-${this.#requests}`, type, content };
  }

  #listen(): void {
    this.#socket.on("message", (data: Buffer) => {
      const message = decodeMessage(data);
      if (message !== undefined && this.#death === undefined) this.#dispatch(message);
    });
    this.#socket.on("error", () => {
      // A frame beyond the limit: what follows can't be read, and the kernel would be nobody's.
      this.markDead({ type: "output-limit" });
      this.kill(FORGET_TIMEOUT_MS).catch(() => undefined); // its sandbox may be gone as well
    });
    this.#socket.on("close", (code) => {
      this.#closed = true;
      if (this.#cause !== undefined) this.markDead(this.#cause);
      else if (code === NO_LEAVE_TAKEN) this.#markDeadAfter(SANDBOX_NEWS_MS, { type: "sandbox-end" });
      else this.#markDeadAfter(OTHER_NEWS_MS, { type: "unknown" });
    });
  }

  #markDeadAfter(ms: number, cause: DeathCause): void {
    setTimeout(() => this.markDead(cause), ms).unref();
  }

  /** Resolves when the kernel answers a request that does nothing; rejects when it ends, or when the signal aborts. */
  async #answer(signal: AbortSignal): Promise<void> {
    const request = this.#request("kernel_info_request", {});
    const answered = new Deferred<undefined>();
    const give = () => answered.reject(unanswered());
    signal.addEventListener("abort", give);
    this.#socket.on("close", give);
    this.#answers.set(request.id, () => answered.resolve(undefined));
    try {
      if (signal.aborted || this.#closed) give();
      else this.#socket.send(encodeRequest(request, this.#session));
      await answered.promise;
    } finally {
      signal.removeEventListener("abort", give);
      this.#socket.off("close", give);
      this.#answers.delete(request.id);
    }
  }

  #dispatch(message: KernelMessage): void {
    if (message.type === "kernel_info_reply") this.#answers.get(message.parentId)?.();
    const fenced = this.#fences.get(message.parentId);
    if (fenced !== undefined) {
      if (message.type === "kernel_info_reply") fenced.giveUpOnReply();
      if (isIdle(message)) fenced.giveUpOnIdle();
      return;
    }
    const execution = this.#executions.get(message.parentId);
    if (execution?.ended !== false) {
      this.#takeLate(message);
      return;
    }
    execution.handle(message);
    if (message.type === "execute_reply" || isIdle(message)) this.#fence(execution);
  }

  /** What a cell has left running shows something after its end: it is output of the one that runs now, or next. */
  #takeLate(message: KernelMessage): void {
    if (!message.parentId.startsWith(this.#session) || !LateOutput.admits(message)) return;
    const [running] = [...this.#executions.values()].filter(({ ended }) => !ended);
    if (running === undefined) this.#late.add(message);
    else running.handle(message);
  }

  /**
   * Both channels keep their order, so the reply to a request sent after one half of a cell's end, and the idle state of
   * that request, prove that the other half, if it has not come by then, never will: a message was lost, or an interrupt
   * hit the kernel between two cells. The fence is rarely needed, and the next cell would wait behind it: so not at once.
   */
  #fence(execution: Execution): void {
    const fence = this.#request("kernel_info_request", {});
    const timer = setTimeout(() => {
      this.#fences.set(fence.id, execution);
      this.#socket.send(encodeRequest(fence, this.#session));
    }, FENCE_DELAY_MS);
    void execution.done.finally(() => {
      clearTimeout(timer);
      this.#fences.delete(fence.id);
    });
  }
}

function unanswered(): IpyboxError {
  return new IpyboxError("kernel-unreachable", "the kernel does not answer", {
    hint: "Call again: a new sandbox is made if this one does not recover.",
  });
}

function isIdle(message: KernelMessage): boolean {
  return (
    message.channel === "iopub" &&
    message.type === "status" &&
    statusShape.safeParse(message.content).data?.execution_state === "idle"
  );
}
