import { IpyboxError, messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { orAborted } from "../common/or-aborted.ts";
import { within } from "../common/time.ts";
import type { LiveSandbox } from "./live-sandbox.ts";

export interface WaitOptions {
  readonly signal: AbortSignal;
  /** Whether the caller's client listens to progress, and so waits for the image to be built. */
  readonly patient: boolean;
  readonly onStep: (step: string) => void;
}

interface Opening {
  readonly foundation: string;
  readonly image: Promise<void>;
  readonly sandbox: Promise<LiveSandbox>;
  readonly listeners: Set<(step: string) => void>;
}

export interface KeeperOptions {
  /** What `prepare` makes, for people. */
  readonly foundation: string;
  /** Makes it ready; `onStep` tells people how far it is. */
  readonly prepare: (options: { signal: AbortSignal; onStep: (step: string) => void }) => Promise<void>;
  readonly open: (signal: AbortSignal) => Promise<LiveSandbox>;
  readonly logger: Logger;
}

/** Clients give up after 60 s of silence: before that, a call without a progress token is told to come again. */
const IMPATIENT_WAIT_MS = 45_000;

/** Keeps one sandbox open for a session: opened at the first wish, shared by all who wait, opened anew when it is gone. */
export class SandboxKeeper implements AsyncDisposable {
  readonly #options: KeeperOptions;
  readonly #closing = new AbortController();
  #opening: Opening | undefined;
  #live: LiveSandbox | undefined;
  #discarding: Promise<unknown> = Promise.resolve();

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /** Begins to open in the background. A failure is logged; the next {@link get} tries again. */
  start(): void {
    this.#open().sandbox.catch((error: unknown) => {
      if (!this.#closing.signal.aborted) this.#options.logger.warn("no sandbox yet", { error: messageOf(error) });
    });
  }

  /** The open sandbox, if there is one. */
  get live(): LiveSandbox | undefined {
    return this.#live?.usable === true ? this.#live : undefined;
  }

  async get(options: WaitOptions): Promise<LiveSandbox> {
    if (this.live !== undefined) return this.live;
    options.signal.throwIfAborted();
    await this.discard();
    const opening = this.#open();
    await imageOf(opening, options);
    return await orAborted(opening.sandbox, options.signal);
  }

  /** Waits while the image is being made. A call that may have others before it waits here from its arrival on. */
  async awaitImage(options: WaitOptions): Promise<void> {
    if (this.#opening !== undefined) await imageOf(this.#opening, options);
  }

  /** Removes the present sandbox; the next {@link get} opens another, once it is gone. */
  async discard(): Promise<void> {
    const live = this.#live;
    this.#live = undefined;
    if (live !== undefined) {
      this.#discarding = Promise.all([this.#discarding, live[Symbol.asyncDispose]()]).catch((error: unknown) => {
        this.#options.logger.warn("a sandbox could not be removed cleanly", { error: messageOf(error) });
      });
    }
    await this.#discarding;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new IpyboxError("sandbox-gone", "the server is shutting down"));
    await this.#opening?.sandbox.catch(() => undefined);
    await this.discard();
  }

  #open(): Opening {
    if (this.#opening !== undefined) return this.#opening;
    const listeners = new Set<(step: string) => void>();
    const image = this.#prepare((step) => tell(listeners, step));
    const sandbox = this.#openOn(image);
    sandbox.catch(() => undefined); // those who wait for it hear of it
    this.#opening = { foundation: this.#options.foundation, image, sandbox, listeners };
    return this.#opening;
  }

  async #prepare(onStep: (step: string) => void): Promise<void> {
    const { signal } = this.#closing;
    signal.throwIfAborted();
    await this.#options.prepare({ signal, onStep });
  }

  async #openOn(image: Promise<void>): Promise<LiveSandbox> {
    try {
      await image;
      await this.#discarding; // it has the same name
      this.#live = await this.#options.open(this.#closing.signal);
      return this.#live;
    } finally {
      this.#opening = undefined;
    }
  }
}

async function imageOf(
  { foundation, image, listeners }: Opening,
  { signal, patient, onStep }: WaitOptions,
): Promise<void> {
  const made = image.then(() => true);
  listeners.add(onStep);
  try {
    if (await orAborted(patient ? made : within(IMPATIENT_WAIT_MS, made), signal)) return;
  } finally {
    listeners.delete(onStep);
  }
  throw new IpyboxError("image-building", `the ${foundation} is still being built`, {
    hint: "Call again in a minute; this happens once. `ipybox build` shows its progress.",
  });
}

function tell(listeners: ReadonlySet<(step: string) => void>, step: string): void {
  for (const listener of listeners) listener(step);
}
