import { createServer, type IncomingMessage, type Server } from "node:http";
import type { Duplex } from "node:stream";
import type { ConnectProxy } from "./connect-proxy.ts";
import type { IndexProxy } from "./index-proxy.ts";

export interface EgressServerOptions {
  /** Absent: there is no package index here. */
  readonly index?: IndexProxy;
  /** Absent: no host may be reached. */
  readonly proxy?: ConnectProxy;
  /** Certificates that clients behind the proxy need, PEM: `/ca.pem`. */
  readonly caBundle?: string;
}

/**
 * The HTTP server at the other end of a sandbox's `egress.sock`. It listens nowhere: connections are handed to it.
 * Every byte is hostile; a connection that breaks the rules is closed. Disposing ends what is open.
 */
export class EgressServer implements AsyncDisposable {
  readonly #server: Server;
  readonly #streams = new Set<Duplex>();
  readonly #stop = new AbortController();

  constructor(options: EgressServerOptions) {
    // A slow client keeps nobody out but its own sandbox. (Node's deadlines for requests count on ports alone.)
    this.#server = createServer({ headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: 60_000 });
    this.#server.on("request", (request, response) => {
      const { index, proxy } = options;
      if (request.url === "/ca.pem" && options.caBundle !== undefined) {
        response.writeHead(200, { "content-type": "application/x-pem-file" }).end(options.caBundle);
      } else if (request.url?.startsWith("/index/") && index) {
        const gone = new AbortController();
        response.once("close", () => gone.abort());
        void index.handle(request, response, AbortSignal.any([gone.signal, this.#stop.signal]));
      } else if (!request.url?.startsWith("/") && proxy) {
        void proxy.forward(request, response);
      } else {
        response.writeHead(404, { "content-type": "text/plain" }).end("there is nothing here\n");
      }
    });
    this.#server.on("connect", (request: IncomingMessage, client: Duplex, head: Buffer) => {
      if (options.proxy) void options.proxy.tunnel(request, client, head);
      else client.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    });
    this.#server.on("clientError", (_error, stream) => stream.destroy());
  }

  /** Takes over a connection of the sandbox; too many at once are closed. */
  accept(stream: Duplex): void {
    if (this.#streams.size >= MAX_STREAMS || this.#stop.signal.aborted) {
      stream.destroy();
      return;
    }
    this.#streams.add(stream);
    stream.once("close", () => this.#streams.delete(stream));
    stream.on("error", () => stream.destroy());
    this.#server.emit("connection", stream);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const stream of this.#streams) stream.destroy();
    return Promise.resolve();
  }
}

const MAX_STREAMS = 128;
