import type { BuildStep, PrepareOptions } from "./engine.ts";
import { orAborted } from "../common/or-aborted.ts";

type Work<T> = (options: PrepareOptions) => Promise<T>;

/** One run of some work, shared by all who ask while it runs: each hears its progress; it stops when all gave up. */
export class SharedPreparation<T> {
  readonly #work: Work<T>;
  #current: Run<T> | undefined;

  constructor(work: Work<T>) {
    this.#work = work;
  }

  /** Rejects with the signal's reason as soon as it aborts, whatever the others do. */
  async join(options: PrepareOptions): Promise<T> {
    options.signal.throwIfAborted();
    const run = (this.#current ??= this.#start());
    const listener = (step: BuildStep) => options.onProgress(step);
    run.listeners.add(listener);
    try {
      return await orAborted(run.result, options.signal);
    } finally {
      run.listeners.delete(listener);
      if (run.listeners.size === 0) {
        if (this.#current === run) this.#current = undefined;
        run.controller.abort();
      }
    }
  }

  #start(): Run<T> {
    const controller = new AbortController();
    const listeners = new Set<(step: BuildStep) => void>();
    const onProgress = (step: BuildStep) => {
      for (const listener of listeners) listener(step);
    };
    const result = this.#work({ signal: controller.signal, onProgress });
    result.catch(() => undefined); // those who joined get it; if all gave up, nobody does
    return { controller, listeners, result };
  }
}

interface Run<T> {
  readonly controller: AbortController;
  readonly listeners: Set<(step: BuildStep) => void>;
  readonly result: Promise<T>;
}
