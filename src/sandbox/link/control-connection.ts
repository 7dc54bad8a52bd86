import type { Duplex } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { z } from "zod";
import { Deferred } from "../../common/lifecycle.ts";

/**
 * What init is told to be, in answer to its first line. The workspace is the path inside; `egress` is there where
 * programs may reach other hosts, with the certificates (PEM) that they are to trust.
 */
export type SandboxMission = (
  | {
      readonly mode: "session";
      readonly token: string;
      readonly workspace: string;
      /** What the workspace must be; absent where it is a copy. */
      readonly identity?: WorkspaceIdentity;
      readonly egress?: { readonly caBundle: string };
    }
  | {
      readonly mode: "task";
      readonly module: string;
      readonly args: readonly string[];
      /** Where it works, and where its free disk is watched. */
      readonly writes: "packages" | "scratch";
    }
) & { readonly shields: readonly ShieldedPlace[] };

/** Of a directory: the boot of its Linux kernel (empty under another system), and its device and inode. */
export interface WorkspaceIdentity {
  readonly boot: string;
  readonly directory: string;
}

/** What init looks for in its mounts before it starts anything. */
export interface ShieldedPlace {
  /** Where a host directory is inside. */
  readonly place: string;
  /** Paths relative to it: bound onto themselves, and hidden behind an empty file. */
  readonly bound: readonly string[];
  readonly masked: readonly string[];
}

export interface ControlEvents {
  /** What init and gateway have to say; for the log. */
  readonly onLog: (text: string) => void;
  /** Output of a task. */
  readonly onOutput: (text: string) => void;
  /** The workspace inside is not the host's; init ends. */
  readonly onElsewhere: () => void;
}

/** Longest event line that is read; init cuts a task's output into far smaller ones. */
const MAX_EVENT_BYTES = 1024 * 1024;

const eventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("log"), text: z.string() }),
  z.object({ event: z.literal("output"), text: z.string() }),
  z.object({ event: z.literal("elsewhere") }),
  z.object({ event: z.literal("exit"), code: z.int().min(-255).max(255) }),
]);

/**
 * The host's end of init's control connection, which is the sandbox's lifeline: when it closes, init kills everything.
 * A line that is too long or of another shape ends it, since nothing but init can write here.
 */
export class ControlConnection implements Disposable {
  readonly #stream: Duplex;
  readonly #events: ControlEvents;
  readonly #ended = new Deferred<undefined>();
  #exitCode: number | undefined;

  constructor(stream: Duplex, mission: SandboxMission, events: ControlEvents) {
    this.#stream = stream;
    this.#events = events;
    stream.once("close", () => this.#ended.resolve(undefined));
    readLines(stream, (line) => this.#handle(line));
    stream.write(`${JSON.stringify(mission)}\n`);
  }

  /** Resolves when the connection is over and everything that it brought was handed out. */
  get ended(): Promise<undefined> {
    return this.#ended.promise;
  }

  /** The exit code that a task reported; undefined until then. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  [Symbol.dispose](): void {
    this.#stream.destroy();
  }

  #handle(line: string): void {
    const parsed = eventSchema.safeParse(parseJson(line));
    if (!parsed.success) {
      this[Symbol.dispose]();
      return;
    }
    const event = parsed.data;
    switch (event.event) {
      case "log": {
        this.#events.onLog(event.text);
        return;
      }
      case "output": {
        this.#events.onOutput(event.text);
        return;
      }
      case "elsewhere": {
        this.#events.onElsewhere();
        return;
      }
      case "exit":
        this.#exitCode = event.code;
        return;
    }
  }
}

function readLines(stream: Duplex, onLine: (line: string) => void): void {
  const decoder = new StringDecoder("utf8");
  let pending = "";
  stream.on("data", (chunk: Buffer) => {
    const lines = (pending + decoder.write(chunk)).split("\n");
    pending = lines.pop() ?? "";
    if (pending.length > MAX_EVENT_BYTES) return void stream.destroy();
    for (const line of lines) onLine(line);
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
