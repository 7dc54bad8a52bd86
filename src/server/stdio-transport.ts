import type { Readable, Writable } from "node:stream";

import { serializeMessage } from "@modelcontextprotocol/sdk/shared/stdio.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { ErrorCode, type JSONRPCMessage, JSONRPCMessageSchema } from "@modelcontextprotocol/sdk/types.js";

import { idOfOversize, type Line, LineSplitter } from "../common/line-splitter.ts";
import { wellFormed } from "../common/well-formed.ts";

/** The SDK's own hangs up over 10 MB. */
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;

/**
 * JSON-RPC by lines, in and out. What is no message gets an error for an answer, where the SDK's transport says nothing and
 * lets the client wait; what goes out is Unicode.
 */
export class StdioTransport implements Transport {
  onmessage?: Transport["onmessage"];
  onerror?: (error: Error) => void;
  onclose?: () => void;
  readonly #input: Readable;
  readonly #output: Writable;
  readonly #lines = new LineSplitter(MAX_MESSAGE_BYTES);

  constructor(input: Readable = process.stdin, output: Writable = process.stdout) {
    this.#input = input;
    this.#output = output;
  }

  start(): Promise<void> {
    this.#input.on("data", this.#onData);
    this.#input.on("error", this.#onError);
    return Promise.resolve();
  }

  send(message: JSONRPCMessage): Promise<void> {
    return this.#write(serializeMessage(message));
  }

  close(): Promise<void> {
    this.#input.off("data", this.#onData);
    this.#input.off("error", this.#onError);
    this.#input.pause();
    this.onclose?.();
    return Promise.resolve();
  }

  readonly #onError = (error: Error): void => this.onerror?.(error);

  readonly #onData = (chunk: Buffer): void => {
    for (const line of this.#lines.push(chunk)) this.#receive(line);
  };

  #receive(line: Line): void {
    if (line.kind === "oversize") {
      this.#refuse(idOfOversize(line), ErrorCode.InvalidRequest, `a message of more than ${MAX_MESSAGE_BYTES} bytes`);
      return;
    }
    const text = line.bytes.toString("utf8");
    if (text.trim() === "") return;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      this.#refuse(undefined, ErrorCode.ParseError, "a line that is no JSON");
      return;
    }
    if (!Array.isArray(value) || value.length === 0) this.#handle(value);
    else for (const each of value) this.#handle(each); // a batch, as of protocol version 2025-03-26
  }

  #handle(value: unknown): void {
    const message = JSONRPCMessageSchema.safeParse(value);
    if (message.success) this.onmessage?.(message.data);
    else if (isNotification(value)) this.onerror?.(new Error("a notification that is none of JSON-RPC"));
    else this.#refuse(idOf(value), ErrorCode.InvalidRequest, "a message that is none of JSON-RPC");
  }

  #refuse(id: string | number | undefined, code: ErrorCode, what: string): void {
    this.onerror?.(new Error(what));
    const error = { code, message: `${what} was refused` };
    void this.#write(`${JSON.stringify({ jsonrpc: "2.0", id: id ?? null, error })}\n`);
  }

  #write(json: string): Promise<void> {
    return new Promise((resolve) => {
      if (this.#output.write(wellFormed(json))) resolve();
      else this.#output.once("drain", resolve);
    });
  }
}

/** JSON-RPC answers no notification, whatever is wrong with it. */
function isNotification(value: unknown): boolean {
  return typeof value === "object" && value !== null && "method" in value && !("id" in value);
}

function idOf(value: unknown): string | number | undefined {
  const id: unknown = typeof value === "object" && value !== null && "id" in value ? value.id : undefined;
  return typeof id === "string" || typeof id === "number" ? id : undefined;
}
