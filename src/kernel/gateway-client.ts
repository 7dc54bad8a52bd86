import { type ClientRequestArgs, type IncomingMessage, request as httpRequest } from "node:http";
import { type Duplex, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import { WebSocket } from "ws";
import { z } from "zod";

import { IpyboxError, messageOf } from "../common/errors.ts";
import { LineSplitter } from "../common/line-splitter.ts";
import { withTimeout } from "../common/time.ts";
import { WEBSOCKET_PROTOCOL } from "./messages.ts";
import type { DeathCause } from "./execution.ts";

/** Opens a fresh stream to the gateway; the sandbox's link knows how. */
export type ConnectGateway = (options: { readonly signal: AbortSignal }) => Promise<Duplex>;

export interface GatewayEvent {
  readonly kernelId: string;
  readonly cause: DeathCause;
}

export interface StartKernelOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

const MAX_ANSWER_BYTES = 64 * 2 ** 20;
const MAX_EVENT_BYTES = 16 * 1024;
/** A frame holds at most one message of the kernel; 256 MB is also the limit of a cell's output. */
const MAX_FRAME_BYTES = 256 * 2 ** 20;
const REQUEST_TIMEOUT_MS = 30_000;
const TRANSFER_TIMEOUT_MS = 600_000;

const kernelShape = z.object({ id: z.string().regex(/^[0-9a-f-]{36}$/) });
const eventShape = z.object({
  event: z.literal("kernel-exited"),
  kernelId: z.string(),
  cause: z
    .discriminatedUnion("type", [
      z.object({ type: z.literal("exit"), code: z.number().int() }),
      z.object({ type: z.literal("signal"), signal: z.string().regex(/^SIG[A-Z0-9+]{1,16}$/) }),
      z.object({ type: z.literal("out-of-memory") }),
    ])
    .catch({ type: "exit", code: -1 }),
});

/** The Jupyter kernel gateway's REST API, its WebSocket, and our additions (docs/architecture.md). */
export class GatewayClient implements Disposable {
  readonly #connect: ConnectGateway;
  readonly #closing = new AbortController();

  constructor(connect: ConnectGateway) {
    this.#connect = connect;
  }

  async startKernel({ env, signal }: StartKernelOptions): Promise<string> {
    const model = await this.#call("POST", "/api/kernels", { body: { name: "ipybox", env }, signal });
    return kernelShape.parse(model).id;
  }

  async interruptKernel(id: string, timeoutMs: number): Promise<void> {
    await this.#call("POST", `/api/kernels/${id}/interrupt`, { timeoutMs });
  }

  /** Ends the kernel and its whole process tree. */
  async killKernel(id: string, timeoutMs: number): Promise<void> {
    await this.#call("DELETE", `/api/kernels/${id}`, { timeoutMs });
  }

  /** Resolves to the answer's JSON, of any shape. A status of 422 is the caller's business: its JSON is resolved too. */
  async post(
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<{ readonly status: number; readonly body: unknown }> {
    return this.#send("POST", path, { body, signal, timeoutMs: 600_000 });
  }

  /** The body of the answer to a POST, as it comes. Rejects with `kernel-unreachable` when it is none of success. */
  async download(path: string, body: unknown, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
    const response = await this.#open("POST", path, body, AbortSignal.any([signal, this.#closing.signal]));
    if (response.statusCode === 200) return response as AsyncIterable<Buffer>; // without an encoding it brings buffers
    response.destroy();
    throw refused(response.statusCode, "POST", path);
  }

  /** Posts a body of any length; resolves to the answer's JSON. */
  async upload(path: string, body: AsyncIterable<Buffer>, signal: AbortSignal): Promise<unknown> {
    return await this.#call("POST", path, { stream: Readable.from(body), signal, timeoutMs: TRANSFER_TIMEOUT_MS });
  }

  async openChannels(kernelId: string, signal?: AbortSignal): Promise<WebSocket> {
    const stream = await this.#openStream(withTimeout(REQUEST_TIMEOUT_MS, signal, this.#closing.signal));
    const socket = new WebSocket(`ws://gateway/api/kernels/${kernelId}/channels`, WEBSOCKET_PROTOCOL, {
      createConnection: () => stream as ReturnType<NonNullable<ClientRequestArgs["createConnection"]>>, // ws needs no more than a Duplex
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      handshakeTimeout: REQUEST_TIMEOUT_MS,
    });
    return new Promise((resolve, reject) => {
      socket.once("open", () => resolve(socket));
      socket.once("error", (error) => reject(unreachable(error)));
    });
  }

  /** Listens for kernels that end, until the client is disposed or the gateway goes. */
  async watchKernels(onExit: (event: GatewayEvent) => void): Promise<void> {
    const response = await this.#open("GET", "/ipybox/events", undefined, this.#closing.signal);
    const lines = new LineSplitter(MAX_EVENT_BYTES);
    response.on("data", (chunk: Buffer) => {
      for (const line of lines.push(chunk)) {
        const event = line.kind === "line" ? eventShape.safeParse(parseJson(line.bytes.toString())).data : undefined;
        if (event !== undefined) onExit(event);
      }
    });
    response.on("error", () => undefined); // the gateway went: init ends the sandbox, and that is heard from the sandbox
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
  }

  async #call(method: string, path: string, options: SendOptions): Promise<unknown> {
    const { status, body } = await this.#send(method, path, options);
    if (status < 300) return body;
    throw refused(status, method, path, body);
  }

  async #send(method: string, path: string, options: SendOptions): Promise<{ status: number; body: unknown }> {
    const signal = withTimeout(options.timeoutMs ?? REQUEST_TIMEOUT_MS, options.signal, this.#closing.signal);
    const response = await this.#open(method, path, options.stream ?? options.body, signal);
    const chunks: Buffer[] = [];
    let size = 0;
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) throw new Error(`an answer of more than ${MAX_ANSWER_BYTES} bytes`);
        chunks.push(chunk);
      }
    } catch (error) {
      throw unreachable(error);
    }
    return { status: response.statusCode ?? 500, body: parseJson(Buffer.concat(chunks).toString()) };
  }

  async #open(method: string, path: string, body: unknown, signal: AbortSignal): Promise<IncomingMessage> {
    const stream = await this.#openStream(signal);
    const createConnection = () => stream;
    const payload = body === undefined || body instanceof Readable ? undefined : JSON.stringify(body);
    const headers =
      payload === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(payload) };
    return new Promise((resolve, reject) => {
      const request = httpRequest({ createConnection, host: "gateway", method, path, headers, signal }, resolve);
      request.on("error", (error) => reject(unreachable(error)));
      if (body instanceof Readable) pipeline(body, request).catch((error: unknown) => reject(unreachable(error)));
      else request.end(payload);
    });
  }

  /** A fresh one for each request: the gateway keeps some ready. */
  async #openStream(signal: AbortSignal): Promise<Duplex> {
    try {
      return await this.#connect({ signal });
    } catch (error) {
      throw unreachable(error);
    }
  }
}

interface SendOptions {
  readonly body?: unknown;
  /** Instead of a body. */
  readonly stream?: Readable;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

function refused(status: number | undefined, method: string, path: string, body?: unknown): IpyboxError {
  const route = path.split("/").slice(0, 3).join("/");
  return new IpyboxError(
    "kernel-unreachable",
    `the kernel gateway answered ${status ?? "nothing"} to ${method} ${route}`,
    {
      hint: "Call again: a new sandbox is made if this one does not recover.",
      context: { status, body },
    },
  );
}

function unreachable(error: unknown): IpyboxError {
  if (error instanceof IpyboxError) return error;
  return new IpyboxError("kernel-unreachable", `the kernel gateway does not answer: ${messageOf(error)}`, {
    hint: "Call again: a new sandbox is made if this one does not recover.",
    cause: error,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
