import { Agent, type IncomingMessage, request as httpRequest, type RequestOptions } from "node:http";
import { Agent as TlsAgent, request as httpsRequest } from "node:https";
import { Socket } from "node:net";
import type { Duplex, Readable } from "node:stream";
import { messageOf } from "../../common/errors.ts";
import { Deferred } from "../../common/lifecycle.ts";
import type { EngineEndpoint } from "../engine-endpoint.ts";
import { dialOverSsh } from "./ssh-connection.ts";

export interface EngineRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE";
  /** Unversioned: the engine answers in its newest version of the API. */
  readonly path: string;
  /** Lists are repeated, objects sent as JSON, as the engine's API has it; undefined is left out. */
  readonly query?: Readonly<Record<string, QueryValue | readonly QueryValue[]>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it comes. */
  readonly tar?: Readable;
  readonly signal?: AbortSignal | undefined;
}

type QueryValue = string | number | boolean | Readonly<Record<string, unknown>> | undefined;

/** The engine answered a request with an error; the message is its own. */
export class EngineRefusal extends Error {
  readonly statusCode: number;

  constructor(statusCode: number, message: string) {
    super(message);
    this.name = "EngineRefusal";
    this.statusCode = statusCode;
  }
}

/** HTTP to an engine. Each request has a connection of its own, so nothing dead is left after the engine restarted. */
export class EngineHttp {
  readonly #connection: RequestOptions;
  readonly #request: typeof httpRequest;

  /** `env` is what `ssh` gets, where that leads to the engine. */
  constructor(endpoint: EngineEndpoint, env: Readonly<Record<string, string | undefined>> = {}) {
    this.#connection = toConnection(endpoint, env);
    this.#request = endpoint.type === "tcp" && endpoint.tls ? httpsRequest : httpRequest;
  }

  /** The JSON of the answer; undefined when it is empty. */
  async json(request: EngineRequest): Promise<unknown> {
    const text = await textOf(await this.stream(request));
    return text === "" ? undefined : JSON.parse(text);
  }

  /** The answer as soon as it begins. @throws EngineRefusal, or the system's error where nobody answers. */
  async stream(request: EngineRequest): Promise<IncomingMessage> {
    const response = await this.#send(request).catch((error: unknown) => {
      request.signal?.throwIfAborted(); // Node rejects with an error of its own
      throw error;
    });
    const status = response.statusCode ?? 0;
    if (status < 300) return response;
    throw new EngineRefusal(status, refusalOf(await textOf(response)));
  }

  /** The connection itself, which the engine has stopped to speak HTTP on. @throws like {@link stream} */
  async upgrade({ method, path, query }: EngineRequest): Promise<Duplex> {
    const upgraded = new Deferred<Duplex>();
    const headers = { Connection: "Upgrade", Upgrade: "tcp" };
    const request = this.#request({ ...this.#connection, method, path: `${path}${toQueryString(query)}`, headers });
    request.on("error", upgraded.reject);
    request.on("upgrade", (_response, socket, head) => {
      if (socket instanceof Socket) socket.setNoDelay(true);
      if (head.length > 0) socket.unshift(head);
      upgraded.resolve(socket);
    });
    request.on("response", (response) => {
      const refuse = (text: string) => upgraded.reject(new EngineRefusal(response.statusCode ?? 0, refusalOf(text)));
      textOf(response).then(refuse, upgraded.reject);
    });
    request.end();
    return await upgraded.promise;
  }

  #send({ method, path, query, body, tar, signal }: EngineRequest): Promise<IncomingMessage> {
    const json = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const request = this.#request({
        ...this.#connection,
        method,
        path: `${path}${toQueryString(query)}`,
        headers: tar
          ? { "Content-Type": "application/x-tar" }
          : { ...(json !== undefined && { "Content-Type": "application/json" }) },
        ...(signal && { signal }),
      });
      request.on("response", resolve);
      request.on("error", reject); // stays: after the answer has begun, its stream tells of errors
      if (tar) tar.on("error", (error) => request.destroy(error)).pipe(request);
      else request.end(json);
    });
  }
}

function toConnection(endpoint: EngineEndpoint, env: Readonly<Record<string, string | undefined>>): RequestOptions {
  if (endpoint.type === "ssh") return { createConnection: () => dialOverSsh(endpoint, env) };
  if (endpoint.type === "socket") return { socketPath: endpoint.path, agent: new Agent() };
  const { host, port, tls } = endpoint;
  return {
    host,
    port,
    agent: tls ? new TlsAgent({ ...tls }) : new Agent(),
  };
}

function toQueryString(query: EngineRequest["query"] = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) {
      if (item !== undefined) parameters.append(name, typeof item === "object" ? JSON.stringify(item) : String(item));
    }
  }
  return parameters.size === 0 ? "" : `?${parameters.toString()}`;
}

async function textOf(response: IncomingMessage): Promise<string> {
  response.setEncoding("utf8");
  let text = "";
  for await (const chunk of response) text += chunk as string; // of a stream with an encoding
  return text;
}

/** The engine's own words without their frame. */
function refusalOf(text: string): string {
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer === "object" && answer !== null && "message" in answer) return messageOf(answer.message).trim();
  } catch {
    // not every proxy in front of an engine speaks JSON
  }
  return text.trim();
}
