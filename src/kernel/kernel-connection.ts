import { randomUUID } from "node:crypto";

import type { WebSocket } from "ws";

import { type DeathCause, Execution, type ExecutionOptions } from "./execution.ts";
import type { GatewayClient, StartKernelOptions } from "./gateway-client.ts";
import { decodeMessage, encodeRequest, kernelRequest, type KernelMessage, statusShape } from "./messages.ts";

const FENCE_DELAY_MS = 250;
/** The news of a kernel's end and the end of its connection travel on two streams: how long one waits for the other. */
const OTHER_NEWS_MS = 750;

/** A running kernel and our WebSocket to it. It runs one cell at a time; the caller queues. */
export class KernelConnection {
  readonly id: string;
  readonly #gateway: GatewayClient;
  readonly #socket: WebSocket;
  readonly #session = randomUUID();
  readonly #executions = new Map<string, Execution>();
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

  /** Starts a kernel and resolves when it answers. */
  static async start(gateway: GatewayClient, options: StartKernelOptions): Promise<KernelConnection> {
    const id = await gateway.startKernel(options);
    const socket = await gateway.openChannels(id, options.signal);
    const connection = new KernelConnection(id, gateway, socket);
    await connection.#listenUntilReady();
    return connection;
  }

  /** Undefined while the kernel lives. */
  get death(): DeathCause | undefined {
    return this.#death;
  }

  execute(code: string, options: ExecutionOptions): Execution {
    const execution = new Execution(options);
    if (this.#death !== undefined) {
      execution.die(this.#death);
      return execution;
    }
    const request = kernelRequest("shell", "execute_request", {
      code,
      silent: false,
      store_history: true,
      user_expressions: {},
      allow_stdin: false,
      stop_on_error: false,
    });
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
    else setTimeout(() => this.markDead(cause), OTHER_NEWS_MS).unref();
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

  async #listenUntilReady(): Promise<void> {
    const ready = kernelRequest("shell", "kernel_info_request", {});
    await new Promise<void>((resolve, reject) => {
      this.#socket.on("message", (data: Buffer) => {
        const message = decodeMessage(data);
        if (message === undefined || this.#death !== undefined) return;
        if (message.parentId === ready.id && message.type === "kernel_info_reply") resolve();
        else this.#dispatch(message);
      });
      this.#socket.on("error", () => undefined); // "close" follows
      this.#socket.on("close", () => {
        reject(new Error("the kernel ended before it answered"));
        this.#closed = true;
        if (this.#cause !== undefined) this.markDead(this.#cause);
        else setTimeout(() => this.markDead({ type: "unknown" }), OTHER_NEWS_MS).unref();
      });
      this.#socket.send(encodeRequest(ready, this.#session));
    });
  }

  #dispatch(message: KernelMessage): void {
    const fenced = this.#fences.get(message.parentId);
    if (fenced !== undefined) {
      if (isIdle(message)) {
        this.#fences.delete(message.parentId);
        fenced.giveUpOnIdle();
      }
      return;
    }
    const execution = this.#executions.get(message.parentId);
    if (execution === undefined) return;
    execution.handle(message);
    if (message.type === "execute_reply") this.#fence(execution);
  }

  /**
   * iopub keeps its order, so the idle state of a request sent after the reply proves that the cell's own idle, if it
   * has not come by then, was lost. The fence is rarely needed, and the next cell would wait behind it: so not at once.
   */
  #fence(execution: Execution): void {
    const timer = setTimeout(() => {
      const fence = kernelRequest("shell", "kernel_info_request", {});
      this.#fences.set(fence.id, execution);
      this.#socket.send(encodeRequest(fence, this.#session));
    }, FENCE_DELAY_MS);
    void execution.done.finally(() => clearTimeout(timer));
  }
}

function isIdle(message: KernelMessage): boolean {
  return (
    message.channel === "iopub" &&
    message.type === "status" &&
    statusShape.safeParse(message.content).data?.execution_state === "idle"
  );
}
