import { readFileSync } from "node:fs";
import { createSecureContext, rootCertificates } from "node:tls";
import type { Dispatcher, Response } from "undici";

export interface HostHttpOptions {
  /** Environment with `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in either case. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Files of CA certificates, trusted besides Node's own; unreadable ones are passed over. */
  readonly caBundlePaths: readonly string[];
}

export interface HostRequest {
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** HTTP as this host does it: its proxies, its CA bundle, bounded connections and waiting times. */
export class HostHttp implements AsyncDisposable {
  readonly #options: HostHttpOptions;
  #dispatcher: Promise<Dispatcher> | undefined;

  constructor(options: HostHttpOptions) {
    this.#options = options;
  }

  /** A GET; rejects as undici's `fetch` does. */
  async fetch(url: URL, request: HostRequest): Promise<Response> {
    const { fetch } = await loadUndici();
    this.#dispatcher ??= createDispatcher(this.#options);
    return await fetch(url, { ...request, dispatcher: await this.#dispatcher });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#dispatcher)?.destroy();
  }
}

async function createDispatcher({ env, caBundlePaths }: HostHttpOptions): Promise<Dispatcher> {
  const { EnvHttpProxyAgent } = await loadUndici();
  const secureContext = createSecureContext({ ca: [...rootCertificates, ...readCaBundles(caBundlePaths)] });
  return new EnvHttpProxyAgent({
    // Empty strings, not undefined: undici would ask this process's own environment.
    httpProxy: env["http_proxy"] ?? env["HTTP_PROXY"] ?? "",
    httpsProxy: env["https_proxy"] ?? env["HTTPS_PROXY"] ?? "",
    noProxy: env["no_proxy"] ?? env["NO_PROXY"] ?? "",
    connections: 16,
    headersTimeout: 60_000,
    bodyTimeout: 60_000,
    connect: { secureContext, timeout: 30_000 },
    requestTls: { secureContext, timeout: 30_000 },
    proxyTls: { secureContext, timeout: 30_000 },
  });
}

/** Sessions that install nothing are spared its time and memory. */
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
