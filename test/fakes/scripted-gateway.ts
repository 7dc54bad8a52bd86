import { randomUUID } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

import { type WebSocket, WebSocketServer } from "ws";

import type { ConnectGateway } from "../../src/kernel/gateway-client.ts";
import { decodeMessage, encodeRequest, WEBSOCKET_PROTOCOL } from "../../src/kernel/messages.ts";
import { duplexPair } from "./duplex-pair.ts";

/** One line of a transcript: what the kernel sends about the running cell. */
export type Line =
  | {
      readonly channel: "iopub" | "shell";
      readonly type: string;
      readonly content: object;
      /** The running cell by default. */
      readonly parent?: string | { readonly cell: number };
    }
  | { readonly raw: Buffer | string }
  /** On the wire, past the framing of WebSockets. */
  | { readonly bytes: Buffer }
  | { readonly exit: object }
  | { readonly close: true }
  /** The connection ends without a word, as with its sandbox. */
  | { readonly cut: true };

export const line = {
  busy: { channel: "iopub", type: "status", content: { execution_state: "busy" } },
  idle: { channel: "iopub", type: "status", content: { execution_state: "idle" } },
  reply: { channel: "shell", type: "execute_reply", content: { status: "ok", execution_count: 1 } },
  out: (text: string) => ({ channel: "iopub", type: "stream", content: { name: "stdout", text } }) as const,
} as const satisfies Record<string, Line | ((text: string) => Line)>;

/**
 * A kernel gateway that plays a transcript for each cell, over the real HTTP and WebSocket protocol. It answers
 * `kernel_info_request` as a kernel does, so fences work.
 */
export class ScriptedGateway implements AsyncDisposable {
  readonly transcripts: Line[][] = [];
  readonly requests: string[] = [];
  readonly #server = createServer();
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: () => WEBSOCKET_PROTOCOL });
  readonly #streams = new Set<Duplex>();
  readonly #events = new Set<ServerResponse>();
  readonly #cells: string[] = [];
  #kernelId = "";

  constructor() {
    this.#server.on("request", (request, response) => {
      this.requests.push(`${request.method ?? ""} ${request.url ?? ""}`.replaceAll(this.#kernelId || "-", "ID"));
      if (request.url === "/ipybox/events") {
        this.#events.add(response.writeHead(200));
        response.write('{"event":"hello"}\n');
      } else if (request.method === "POST" && request.url === "/api/kernels") {
        this.#kernelId = randomUUID();
        response.writeHead(201).end(JSON.stringify({ id: this.#kernelId }));
      } else {
        response.writeHead(204).end();
      }
    });
    this.#server.on("upgrade", (request, stream, head) => {
      this.#sockets.handleUpgrade(request, stream, head, (socket) => this.#serve(socket, stream));
    });
  }

  readonly connect: ConnectGateway = () => {
    const [ours, theirs] = duplexPair();
    this.accept(ours);
    return Promise.resolve(theirs);
  };

  /** Serves a stream of a sandbox. */
  accept(stream: Duplex): void {
    this.#streams.add(stream);
    this.#server.emit("connection", stream);
  }

  [Symbol.asyncDispose](): Promise<void> {
    for (const stream of this.#streams) stream.destroy();
    this.#sockets.close();
    return Promise.resolve();
  }

  #serve(socket: WebSocket, stream: Duplex): void {
    const send = (channel: string, type: string, content: object, parent: string) =>
      socket.send(encodeMessage(channel, type, content, parent));
    socket.on("message", (data: Buffer) => {
      const message = decodeMessage(data);
      if (message?.type === "kernel_info_request") {
        send("shell", "kernel_info_reply", {}, message.id);
        send("iopub", "status", { execution_state: "idle" }, message.id);
      }
      if (message?.type !== "execute_request") return;
      this.#cells.push(message.id);
      for (const each of this.transcripts.shift() ?? []) {
        if ("raw" in each) socket.send(each.raw);
        else if ("bytes" in each) stream.write(each.bytes);
        else if ("exit" in each) this.#announce({ event: "kernel-exited", kernelId: this.#kernelId, cause: each.exit });
        else if ("close" in each) socket.close();
        else if ("cut" in each) stream.destroy();
        else send(each.channel, each.type, each.content, this.#parentOf(each.parent) ?? message.id);
      }
    });
  }

  #parentOf(parent: string | { readonly cell: number } | undefined): string | undefined {
    return typeof parent === "object" ? this.#cells.at(parent.cell) : parent;
  }

  #announce(event: object): void {
    for (const response of this.#events) response.write(`${JSON.stringify(event)}\n`);
  }
}

/** As the gateway frames what a kernel sends: our own encoder, with the parent's id and the kernel's type put in. */
export function encodeMessage(channel: string, type: string, content: object, parent: string): Buffer {
  const parts = [
    channel,
    JSON.stringify({ msg_id: randomUUID(), msg_type: type }),
    JSON.stringify({ msg_id: parent }),
    "{}",
    JSON.stringify(content),
  ];
  const empty = encodeRequest({ channel: "shell", id: "", type: "", content: {} }, "");
  const head = empty.subarray(0, 8 * 7);
  const bodies = parts.map((part) => Buffer.from(part));
  let offset = head.length;
  for (const [index, body] of [...bodies, Buffer.alloc(0)].entries()) {
    head.writeBigUInt64LE(BigInt(offset), 8 * (1 + index));
    offset += body.length;
  }
  return Buffer.concat([head, ...bodies]);
}
