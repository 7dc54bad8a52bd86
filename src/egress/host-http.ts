import { readFileSync } from "node:fs";
import { createSecureContext, rootCertificates } from "node:tls";
import { EnvHttpProxyAgent, type Dispatcher } from "undici";

export interface HostHttpOptions {
  /** Environment with `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, in either case. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Files of CA certificates, trusted besides Node's own; unreadable ones are passed over. */
  readonly caBundlePaths: readonly string[];
}

/** HTTP as this host does it: its proxies, its CA bundle, bounded connections and waiting times. */
export function createHostDispatcher(options: HostHttpOptions): Dispatcher {
  const { env } = options;
  const secureContext = createSecureContext({ ca: [...rootCertificates, ...readCaBundles(options.caBundlePaths)] });
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
