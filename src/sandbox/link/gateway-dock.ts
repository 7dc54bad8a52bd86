import { timingSafeEqual } from "node:crypto";
import type { Duplex } from "node:stream";
import { z } from "zod";
import { messageOf } from "../../common/errors.ts";
import { Deferred } from "../../common/lifecycle.ts";
import type { Logger } from "../../common/logger.ts";
import { ControlConnection, type ControlEvents, type SandboxMission } from "./control-connection.ts";
import { GatewayStreams } from "./gateway-streams.ts";
import { readPreamble } from "./preamble.ts";
import { WorkspaceElsewhere } from "./workspace-elsewhere.ts";

export interface GatewayDockOptions extends Omit<ControlEvents, "onElsewhere"> {
  readonly mission: SandboxMission;
  readonly logger: Logger;
}

/** docs/architecture.md, "gateway.sock". */
const PREAMBLE = { maxBytes: 4096, timeoutMs: 10_000 };
/** Connections that have not said yet what they are. Over it, new ones are closed. */
const MAX_UNANNOUNCED = 16;

const preambleSchema = z.discriminatedUnion("role", [
  z.object({ role: z.literal("init"), version: z.literal(1) }),
  z.object({ role: z.literal("gateway"), token: z.string() }),
]);

/**
 * Where the connections of one sandbox's `gateway.sock` arrive, over whichever link: the first that says it is init
 * becomes the control connection, those that know the token become gateway streams, all others are closed.
 */
export class GatewayDock implements Disposable {
  readonly #options: GatewayDockOptions;
  readonly #streams = new GatewayStreams();
  readonly #control = new Deferred<ControlConnection>();
  readonly #ready = new Deferred<undefined>();
  readonly #unannounced = new Set<Duplex>();
  #controlTaken = false;
  #disposed = false;

  constructor(options: GatewayDockOptions) {
    this.#options = options;
    this.#ready.promise.catch(() => undefined); // tasks don't wait for it
  }

  /**
   * Resolves when the first gateway stream has announced itself; stays pending if none ever does. Rejects with
   * {@link WorkspaceElsewhere} when what is mounted as the workspace is another directory.
   */
  get ready(): Promise<undefined> {
    return this.#ready.promise;
  }

  /** Resolves when init has connected; stays pending if it never does. */
  get control(): Promise<ControlConnection> {
    return this.#control.promise;
  }

  connectGateway(options: { readonly signal: AbortSignal }): Promise<Duplex> {
    return this.#streams.take(options);
  }

  /** Takes a connection over; never throws. */
  accept(stream: Duplex): void {
    stream.on("error", () => stream.destroy());
    if (this.#disposed || this.#unannounced.size >= MAX_UNANNOUNCED) return void stream.destroy();
    this.#unannounced.add(stream);
    readPreamble(stream, PREAMBLE)
      .then((line) => this.#admit(stream, line))
      .catch((error: unknown) => {
        this.#options.logger.debug("connection to the gateway socket refused", { reason: messageOf(error) });
        stream.destroy();
      })
      .finally(() => this.#unannounced.delete(stream));
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const stream of this.#unannounced) stream.destroy();
    this.#streams[Symbol.dispose]();
    if (this.#controlTaken) void this.#control.promise.then((control) => control[Symbol.dispose]());
  }

  #admit(stream: Duplex, line: string): void {
    const preamble = preambleSchema.parse(JSON.parse(line));
    if (this.#disposed) throw new Error("the sandbox has ended");
    switch (preamble.role) {
      case "init":
        if (this.#controlTaken) throw new Error("there is a control connection already");
        this.#controlTaken = true;
        this.#control.resolve(this.#toControl(stream));
        return;
      case "gateway":
        if (!this.#knowsToken(preamble.token)) throw new Error("wrong token");
        this.#streams.add(stream);
        this.#ready.resolve(undefined);
        return;
    }
  }

  #toControl(stream: Duplex): ControlConnection {
    const { mission } = this.#options;
    const workspace = mission.mode === "session" ? mission.workspace : "";
    const onElsewhere = () => this.#ready.reject(new WorkspaceElsewhere(workspace));
    return new ControlConnection(stream, mission, { ...this.#options, onElsewhere });
  }

  #knowsToken(token: string): boolean {
    const { mission } = this.#options;
    if (mission.mode !== "session") return false;
    const [given, expected] = [Buffer.from(token), Buffer.from(mission.token)];
    return given.length === expected.length && timingSafeEqual(given, expected);
  }
}
