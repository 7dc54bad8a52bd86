import type { Readable } from "node:stream";
import type { ContainerCreateOptions } from "dockerode";
import { z } from "zod";
import { Deferred, ReleaseStack } from "../../common/lifecycle.ts";
import type { Logger } from "../../common/logger.ts";
import { within } from "../../common/time.ts";
import type { SandboxExit } from "../engine.ts";
import type { Carrier } from "../link/multiplexer.ts";
import type { LogTail } from "../log-tail.ts";
import { carrierOf, logOutput } from "./attach-stream.ts";
import { type DockerClient, statusOf } from "./client.ts";
import { endsInsteadOfPausing, REMOVAL_EVENTS } from "./dialect.ts";

/** A started container. Disposing kills and removes it; a container that is gone already is no error. */
export interface StartedContainer extends AsyncDisposable {
  readonly exited: Promise<SandboxExit>;
  /** Freezes every process in it, or ends it under gVisor; a container that is paused or gone already is no error. */
  pause(): Promise<void>;
  /** Someone else knows that the container has ended; the exit is settled even if the engine does not say it. */
  assumeGone(): void;
}

export interface StartOptions {
  readonly signal: AbortSignal;
  /** Receives what the container writes, from its first byte. */
  readonly log: LogTail;
  /** Takes the container's stdin and stdout; only stderr is logged then. */
  readonly carry: ((carrier: Carrier) => void) | undefined;
  readonly logger: Logger;
}

/** An out-of-memory kill this shortly before the exit is its cause. */
const OOM_WINDOW_MS = 5000;
/** How long the engine may take to report an exit that is known otherwise: the answer of a cell waits for it. */
const EXIT_TIMEOUT_MS = 1700;
const REMOVAL_TIMEOUT_MS = 2000;
const SIGKILL_EXIT_CODE = 137;

/** Creates and starts a container; a failure leaves none behind and is thrown after that. */
export async function startContainer(
  client: DockerClient,
  create: ContainerCreateOptions,
  options: StartOptions,
): Promise<StartedContainer> {
  const stack = new ReleaseStack();
  try {
    const since = Math.floor(Date.now() / 1000);
    const watch = new ExitWatch();
    const streams: Readable[] = [];
    stack.defer(() => streams.forEach((stream) => stream.destroy())); // last: the removal is seen in the events
    const id = await client.ask(client.api.createContainer(create));
    stack.defer(() => removeContainer(client, id, watch));
    options.signal.throwIfAborted();
    // Both before the start: AutoRemove deletes logs and exit code together with the container.
    streams.push(await attach(client, id, options));
    streams.push(await followEvents(client, id, since, watch));
    options.signal.throwIfAborted();
    await client.ask(client.api.startContainer(id));
    return {
      exited: watch.exited,
      pause: () =>
        endsInsteadOfPausing(create.HostConfig?.Runtime)
          ? removeContainer(client, id, watch)
          : pauseContainer(client, id),
      assumeGone: () => void within(EXIT_TIMEOUT_MS, watch.exited).then(() => watch.settle(undefined)),
      async [Symbol.asyncDispose]() {
        await stack[Symbol.asyncDispose]();
        watch.settle(undefined);
      },
    };
  } catch (error) {
    await stack[Symbol.asyncDispose]().catch((undoError: unknown) => {
      options.logger.warn("a container that did not start could not be removed", { error: undoError });
    });
    throw error;
  }
}

/** What the engine's events tell about one container. */
class ExitWatch {
  readonly #exited = new Deferred<SandboxExit>();
  readonly #removed = new Deferred<true>();
  #oomAt = -Infinity;

  get exited(): Promise<SandboxExit> {
    return this.#exited.promise;
  }

  get removed(): Promise<true> {
    return this.#removed.promise;
  }

  handle(event: EngineEvent): void {
    switch (event.Action) {
      case "oom":
        this.#oomAt = performance.now();
        return;
      case "die": {
        this.settle(Number(event.Actor.Attributes?.["exitCode"] ?? NaN));
        return;
      }
      case "destroy":
      case "remove":
        this.#removed.resolve(true);
        this.settle(undefined);
        return;
    }
  }

  settle(code: number | undefined): void {
    const known = Number.isInteger(code) ? code : undefined;
    const outOfMemory = known === SIGKILL_EXIT_CODE && performance.now() - this.#oomAt < OOM_WINDOW_MS;
    this.#exited.resolve({ code: known, outOfMemory });
  }
}

/** The engine may go away, which is noticed elsewhere: errors of the stream say nothing new. */
async function attach(client: DockerClient, id: string, { log, carry }: StartOptions): Promise<Readable> {
  if (carry === undefined) {
    const output = await client.ask(client.api.attachOutput(id));
    logOutput(
      output.on("error", () => undefined),
      log,
    );
    return output;
  }
  const stdio = await client.ask(client.api.attachStdio(id));
  carry(
    carrierOf(
      stdio.on("error", () => undefined),
      log,
    ),
  );
  return stdio;
}

const eventSchema = z.object({
  Action: z.enum(["oom", "die", ...REMOVAL_EVENTS]),
  Actor: z.object({ Attributes: z.record(z.string(), z.string()).optional() }),
});
type EngineEvent = z.infer<typeof eventSchema>;

async function followEvents(client: DockerClient, id: string, since: number, watch: ExitWatch): Promise<Readable> {
  const filters = { container: [id] };
  const stream = await client.ask(client.api.events({ since, filters }));
  let pending = "";
  stream.on("data", (chunk: Buffer) => {
    const lines = (pending + chunk.toString("utf8")).split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) {
      const event = parseEvent(line);
      if (event) watch.handle(event);
    }
  });
  stream.on("error", () => undefined); // likewise
  return stream;
}

function parseEvent(line: string): EngineEvent | undefined {
  try {
    return eventSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

async function pauseContainer(client: DockerClient, id: string): Promise<void> {
  try {
    await client.ask(client.api.pauseContainer(id));
  } catch (error) {
    const status = statusOf(error);
    if (status === 404) return;
    // Paused, or ended: the engine refuses both alike, with another status in each of its versions.
    const state = await client.find(client.api.inspectContainer(id));
    if (state !== undefined && state.State.Running && !state.State.Paused) throw error;
  }
}

async function removeContainer(client: DockerClient, id: string, watch: ExitWatch): Promise<void> {
  try {
    await client.ask(client.api.removeContainer(id));
  } catch (error) {
    const status = statusOf(error);
    if (status === 404) return; // AutoRemove was faster
    if (status !== 409) throw error;
    await within(REMOVAL_TIMEOUT_MS, watch.removed); // AutoRemove is at it
  }
}
