import { IpyboxError } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { within, withTimeout } from "../common/time.ts";
import type { DeathCause } from "../kernel/execution.ts";
import type { GatewayClient } from "../kernel/gateway-client.ts";
import { KernelConnection } from "../kernel/kernel-connection.ts";

export interface KernelsOptions {
  readonly gateway: GatewayClient;
  /** Read anew for every kernel, so that a change of the env file applies at reset. */
  readonly environment: () => Promise<Readonly<Record<string, string>>>;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

interface Spare {
  readonly environment: string;
  readonly kernel: Promise<KernelConnection | undefined>;
}

const KILL_TIMEOUT_MS = 1_500;
const REPLACE_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 500;

/** The kernels of one sandbox: the one that cells run in, and at most one spare that can take its place at once. */
export class Kernels {
  readonly #options: KernelsOptions;
  /** By id, those that live. */
  readonly #all = new Map<string, KernelConnection>();
  #current: KernelConnection | undefined;
  #spare: Spare | undefined;
  #ended = false;

  constructor(options: KernelsOptions) {
    this.#options = options;
  }

  /** The kernel that cells run in, which may have died; undefined until {@link start} has resolved. */
  get current(): KernelConnection | undefined {
    return this.#current;
  }

  /** Starts the first kernel, and listens for the end of any. */
  async start(): Promise<void> {
    const [kernel] = await Promise.all([this.#start(), this.#watch()]);
    this.#current = kernel;
  }

  /** Starts the spare kernel in the background, when there is none. */
  prepareSpare(): void {
    if (this.#spare !== undefined || this.#ended) return;
    void this.#options.environment().then(
      (environment) => {
        this.#spare ??= {
          environment: JSON.stringify(environment),
          kernel: this.#start(environment).catch((error: unknown) => {
            this.#options.logger.debug("no spare kernel", { error });
            return undefined;
          }),
        };
      },
      () => undefined, // the next reset reports it
    );
  }

  /** Puts a new kernel in the place of `old`, whose whole process tree is killed. Rejects when either fails. */
  async replace(old: KernelConnection): Promise<void> {
    const signal = withTimeout(REPLACE_TIMEOUT_MS, this.#options.signal);
    const [next] = await Promise.all([
      within(REPLACE_TIMEOUT_MS, this.#takeSpareOrStart(signal)),
      old.death === undefined ? old.kill(KILL_TIMEOUT_MS) : undefined,
    ]);
    if (next === undefined) throw new IpyboxError("kernel-unreachable", "the sandbox makes no new kernel");
    this.#all.delete(old.id);
    this.#current = next;
  }

  /** The sandbox is gone, and every kernel with it. */
  end(cause: DeathCause): void {
    this.#ended = true;
    for (const kernel of this.#all.values()) kernel.markDead(cause);
    this.#all.clear();
  }

  async #takeSpareOrStart(signal: AbortSignal): Promise<KernelConnection> {
    const environment = await this.#options.environment();
    const spare = this.#spare;
    this.#spare = undefined;
    const kernel = await spare?.kernel;
    if (kernel !== undefined && (await kernel.answers(ANSWER_TIMEOUT_MS))) {
      if (spare?.environment === JSON.stringify(environment)) return kernel;
      await kernel.kill(KILL_TIMEOUT_MS);
    } else if (kernel !== undefined && kernel.death === undefined) {
      // Nobody but a cell keeps it from answering, and who tampers with helpers loses the sandbox.
      throw new IpyboxError("kernel-unreachable", "the spare kernel does not answer");
    }
    return this.#start(environment, signal);
  }

  async #start(
    environment?: Readonly<Record<string, string>>,
    signal = this.#options.signal,
  ): Promise<KernelConnection> {
    const env = environment ?? (await this.#options.environment());
    const kernel = await KernelConnection.start(this.#options.gateway, { env, signal });
    this.#all.set(kernel.id, kernel);
    return kernel;
  }

  #watch(): Promise<void> {
    return this.#options.gateway.watchKernels(({ kernelId, cause }) => {
      this.#all.get(kernelId)?.announceExit(cause);
      this.#all.delete(kernelId);
    });
  }
}
