import { lookup } from "node:dns/promises";
import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, isIP, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { isPublicAddress } from "./addresses.ts";
import { canonicalHost, formatAllowRule, isAllowed, splitTarget, type AllowRule } from "./allow-list.ts";
import { connectThroughProxy } from "./upstream-proxy.ts";

export interface ConnectProxyOptions {
  readonly allowed: readonly AllowRule[];
  /** Hosts that may resolve to private addresses (`--allow-private`); they need no second rule in `allowed`. */
  readonly allowedPrivate: readonly AllowRule[];
  /** The host's own proxy for a target, if it has one; it resolves the name then. */
  readonly proxyFor: (host: string, port: number) => URL | undefined;
  readonly logger: Logger;
  /** Addresses of a name; the system's resolver by default. */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
  /** How long a connection may be silent both ways: 5 min by default. */
  readonly idleTimeoutMs?: number;
}

/** A request that is not admitted or not possible; its message goes to the client, who is hostile. */
class Denial extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/**
 * An HTTP proxy for named hosts only. A name is checked against the list before anything is resolved; what it resolves
 * to is checked, and exactly that address is connected to. Redirects are new requests, so they are checked as well.
 */
export class ConnectProxy {
  readonly #options: ConnectProxyOptions;
  #open = 0;

  constructor(options: ConnectProxyOptions) {
    this.#options = options;
  }

  /** `CONNECT host:port`: a tunnel. Never throws. */
  async tunnel(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    client.on("error", () => client.destroy());
    try {
      const target = splitTarget(request.url ?? "");
      if (target?.port === undefined) throw new Denial(400, "CONNECT needs host:port");
      const server = await this.#dial(target.host, target.port);
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      if (head.length > 0) server.write(head);
      await this.#relay(client, server);
    } catch (error) {
      const { status, message } = toDenial(error);
      const body = `${message}\n`;
      client.end(
        `HTTP/1.1 ${status} ${status === 403 ? "Forbidden" : "Error"}\r\ncontent-type: text/plain; charset=utf-8\r\n` +
          `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
      );
    }
  }

  /** `GET http://host/…`: a plain request, passed on without hop-by-hop headers. Never throws. */
  async forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = URL.canParse(request.url ?? "") ? new URL(request.url ?? "") : undefined;
      // The name as the client wrote it: URL would turn 0x7f.1 into 127.0.0.1.
      const target = splitTarget(/^http:\/\/([^/?#@]+)(?:[/?#]|$)/i.exec(request.url ?? "")?.[1] ?? "");
      if (url === undefined || target === undefined) throw new Denial(400, "only http:// URLs can be requested");
      const server = await this.#dial(target.host, target.port ?? 80);
      await this.#exchange(request, response, url, server);
    } catch (error) {
      const { status, message } = toDenial(error);
      if (response.headersSent) response.destroy();
      else response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${message}\n`);
    }
  }

  async #dial(name: string, port: number): Promise<Socket> {
    const { allowed, allowedPrivate, logger } = this.#options;
    const host = canonicalHost(name);
    if (host === undefined) {
      logger.warn("egress denied: no host name", { host: printable(name), port });
      throw new Denial(403, `'${printable(name)}' is no host name that can be admitted`);
    }
    const privateToo = isAllowed(allowedPrivate, host, port);
    if (!privateToo && !isAllowed(allowed, host, port)) {
      logger.warn("egress denied: not on the list", { host, port });
      const isPrivate = isIP(host) === 0 ? /(^|\.)localhost$/.test(host) : !isPublicAddress(host);
      const option = `${isPrivate ? "--allow-private" : "--allow-domain"} ${formatAllowRule(host, port)}`;
      const target = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
      throw new Denial(403, `${target} is not admitted; start ipybox with ${option} to admit it`);
    }
    if (this.#open >= MAX_CONNECTIONS) throw new Denial(503, `more than ${MAX_CONNECTIONS} connections are open`);
    this.#open += 1;
    try {
      const socket = await this.#connect(host, port, privateToo);
      socket.once("close", () => (this.#open -= 1));
      logger.info("egress allowed", { host, port });
      return socket;
    } catch (error) {
      this.#open -= 1;
      throw error;
    }
  }

  async #connect(host: string, port: number, privateToo: boolean): Promise<Socket> {
    const proxy = this.#options.proxyFor(host, port);
    if (proxy !== undefined && isIP(host) === 0)
      return await connectThroughProxy(proxy, host, port, CONNECT_TIMEOUT_MS);
    const addresses = isIP(host) === 0 ? await this.#resolve(host) : [host];
    const address = privateToo ? addresses[0] : addresses.find(isPublicAddress);
    if (address === undefined) {
      this.#options.logger.warn("egress denied: private address", { host, port });
      const option = `--allow-private ${formatAllowRule(host, port)}`;
      throw new Denial(403, `${host} has a private address; start ipybox with ${option} to admit it`);
    }
    return await connectTo(address, port);
  }

  async #resolve(host: string): Promise<readonly string[]> {
    try {
      if (this.#options.resolve) return await this.#options.resolve(host);
      return (await lookup(host, { all: true })).map(({ address }) => address);
    } catch {
      throw new Denial(502, `${host} can't be resolved`);
    }
  }

  /** Ends with whichever side ends, and when both are silent for long. */
  async #relay(client: Duplex, server: Socket): Promise<void> {
    server.setTimeout(this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS, () => server.destroy());
    await Promise.all([pipeline(client, server), pipeline(server, client)]).catch(() => undefined);
    server.destroy();
    client.destroy();
  }

  async #exchange(request: IncomingMessage, response: ServerResponse, url: URL, server: Socket): Promise<void> {
    server.setTimeout(this.#options.idleTimeoutMs ?? IDLE_TIMEOUT_MS, () => server.destroy());
    try {
      const outgoing = httpRequest({
        // With `agent: false` Node would ignore createConnection.
        createConnection: () => server,
        method: request.method ?? "GET",
        path: `${url.pathname}${url.search}`,
        headers: { ...withoutHopByHop(request.headers), host: url.host, connection: "close" },
      });
      const answered = new Promise<IncomingMessage>((resolve, reject) => {
        outgoing.once("response", resolve).once("error", reject);
      });
      const [answer] = await Promise.all([answered, pipeline(request, outgoing)]);
      response.writeHead(answer.statusCode ?? 502, withoutHopByHop(answer.headers));
      await pipeline(answer, response);
    } finally {
      server.destroy();
    }
  }
}

function connectTo(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // The address that was checked, not the name: a second resolution could answer otherwise.
    const socket = connect({ host, port });
    const fail = () => {
      socket.destroy();
      reject(new Denial(502, `port ${port} does not answer`));
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, fail);
    socket.once("error", fail);
    socket.once("connect", () => {
      socket.setTimeout(0);
      socket.off("error", fail);
      socket.on("error", () => socket.destroy());
      resolve(socket);
    });
  });
}

function withoutHopByHop(headers: IncomingMessage["headers"]): IncomingMessage["headers"] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name)));
}

function toDenial(error: unknown): Denial {
  return error instanceof Denial ? error : new Denial(502, `the host did not answer as expected: ${messageOf(error)}`);
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 100);
}

const MAX_CONNECTIONS = 64;
const CONNECT_TIMEOUT_MS = 30_000;
const IDLE_TIMEOUT_MS = 300_000;
const HOP_BY_HOP = new Set([
  ...["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"],
  ...["te", "trailer", "transfer-encoding", "upgrade"],
]);
