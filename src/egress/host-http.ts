import { readFileSync } from "node:fs";
import { createSecureContext, rootCertificates } from "node:tls";
import type { Dispatcher, Response } from "undici";

export interface HostHttpOptions {
  /** Environment with `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in either case. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Files of CA certificates, trusted besides Node's own; unreadable ones are passed over. */
  readonly caBundlePaths: readonly string[];
  /** How long a server may be silent, before its answer and in it; 0: for ever. */
  readonly maxSilenceMs: number;
  /** To one server; null: as many as are asked for. */
  readonly maxConnections: number | null;
}

export interface HostRequest {
  readonly method?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | null;
  readonly redirect?: "follow" | "manual" | "error";
  readonly signal?: AbortSignal | null;
}

/** HTTP as this host does it: its proxies, its CA bundle, bounded connections and waiting times. */
export class HostHttp implements AsyncDisposable {
  readonly #options: HostHttpOptions;
  #dispatcher: Promise<Dispatcher> | undefined;

  constructor(options: HostHttpOptions) {
    this.#options = options;
  }

  /** Rejects as undici's `fetch` does. */
  async fetch(url: string | URL, request: HostRequest): Promise<Response> {
    const { fetch } = await loadUndici();
    this.#dispatcher ??= createDispatcher(this.#options);
    return await fetch(url, { ...request, dispatcher: await this.#dispatcher });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#dispatcher)?.destroy();
  }
}

async function createDispatcher(options: HostHttpOptions): Promise<Dispatcher> {
  const { env, caBundlePaths, maxSilenceMs, maxConnections } = options;
  const { EnvHttpProxyAgent } = await loadUndici();
  const secureContext = createSecureContext({ ca: [...rootCertificates, ...readCaBundles(caBundlePaths)] });
  return new EnvHttpProxyAgent({
    // Empty strings, not undefined: undici would ask this process's own environment.
    httpProxy: env["http_proxy"] ?? env["HTTP_PROXY"] ?? "",
    httpsProxy: env["https_proxy"] ?? env["HTTPS_PROXY"] ?? "",
    noProxy: withLoopback(env["no_proxy"] ?? env["NO_PROXY"] ?? ""),
    // Plain HTTP is forwarded, as by pip and curl: many proxies open tunnels to port 443 only.
    proxyTunnel: false,
    connections: maxConnections,
    headersTimeout: maxSilenceMs,
    bodyTimeout: maxSilenceMs,
    connect: { secureContext, timeout: 30_000 },
    requestTls: { secureContext, timeout: 30_000 },
    proxyTls: { secureContext, timeout: 30_000 },
  });
}

/** No proxy can reach this host's own loopback. */
function withLoopback(noProxy: string): string {
  return noProxy.trim() === "*" ? "*" : `${noProxy},localhost,127.0.0.1,[::1]`;
}

/** Sessions that install nothing and use no MCP server over HTTP are spared its time and memory. */
function loadUndici() {
  return import("undici");
}

/** The certificates of the given files, PEM, for programs in an installer that verify TLS themselves (git). */
export function readCaBundles(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    try {
      const certificates = readFileSync(path, "utf8").match(CERTIFICATE);
      return certificates ?? [];
    } catch {
      return [];
    }
  });
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g;
