import { join } from "node:path";
import { rootCertificates } from "node:tls";
import type { Logger } from "../common/logger.ts";
import { canonicalHost, isAllowed, parseAllowRule, type AllowRule } from "./allow-list.ts";
import { ConnectProxy } from "./connect-proxy.ts";
import { EgressServer } from "./egress-server.ts";
import { HostHttp, type HostRequest, readCaBundles } from "./host-http.ts";
import { caBundlePaths, findNetrcCredentials, resolveIndexes, type PackageIndex } from "./index-config.ts";
import { IndexProxy } from "./index-proxy.ts";
import { proxyFromEnvironment } from "./upstream-proxy.ts";
import { WheelCache } from "./wheel-cache.ts";

export interface HostEgressOptions {
  /** `--index-url` and `--extra-index-url`. */
  readonly indexUrl: string | undefined;
  readonly extraIndexUrls: readonly string[];
  /** `--allow-domain`: hosts that sandboxes may reach. */
  readonly allowDomain: readonly string[];
  /** `--allow-private`: hosts that may be reached even at private addresses, by sandboxes and by installers. */
  readonly allowPrivate: readonly string[];
  /** The server's own environment: pip's and proxies' variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** Contents of a file of pip's, undefined where there is none, or none to be trusted. */
  readonly readFile: (path: string) => string | undefined;
  /** ipybox's state directory; the cache of downloads lies in it. */
  readonly stateDir: string;
  /** Whether too little is free on the disk of the state directory. */
  readonly isDiskLow: () => Promise<boolean>;
  readonly logger: Logger;
}

/** What sandboxes and installers may reach through this host. Nothing is opened before it is needed. */
export class HostEgress implements AsyncDisposable {
  readonly #options: HostEgressOptions;
  readonly #indexes: readonly PackageIndex[];
  readonly #allowed: readonly AllowRule[];
  readonly #allowedPrivate: readonly AllowRule[];
  readonly #cache: WheelCache;
  readonly #indexHttp: HostHttp;
  readonly #serverHttp: HostHttp;
  #caBundle: string | undefined;

  /** Throws `invalid-configuration` when an index is no http(s) URL, or a host no host name. */
  constructor(options: HostEgressOptions) {
    this.#options = options;
    this.#indexes = resolveIndexes(options);
    this.#allowed = options.allowDomain.map((text) => parseAllowRule(text, "--allow-domain"));
    this.#allowedPrivate = options.allowPrivate.map((text) => parseAllowRule(text, "--allow-private"));
    const { isDiskLow } = options;
    this.#cache = new WheelCache({ directory: join(options.stateDir, "wheels"), maxBytes: CACHE_BYTES, isDiskLow });
    const http = { env: options.env, caBundlePaths: caBundlePaths(options) };
    this.#indexHttp = new HostHttp({ ...http, maxSilenceMs: INDEX_SILENCE_MS, maxConnections: 16 });
    this.#serverHttp = new HostHttp({ ...http, maxSilenceMs: 0, maxConnections: null });
  }

  get indexCount(): number {
    return this.#indexes.length;
  }

  /** The CA certificates that this host trusts, PEM: for programs behind the proxy, which verify TLS themselves. */
  get caBundle(): string {
    this.#caBundle ??= [...new Set([...rootCertificates, ...readCaBundles(caBundlePaths(this.#options))])].join("\n");
    return this.#caBundle;
  }

  /**
   * What kernels have to be told besides the proxy: the loopback is a sandbox's own and excepted from proxies, but for
   * its names that are allowed, which mean this host's.
   */
  get kernelEnvironment(): Readonly<Record<string, string>> {
    const named = new Set([...this.#allowed, ...this.#allowedPrivate].map(({ host }) => host));
    const own = LOOPBACK_NAMES.filter((name) => !named.has(name));
    if (own.length === LOOPBACK_NAMES.length) return {};
    return { NO_PROXY: own.join(","), no_proxy: own.join(",") };
  }

  /** Whether code in a sandbox may reach a host; nothing is resolved. */
  admits(host: string, port: number): boolean {
    return isAllowed([...this.#allowed, ...this.#allowedPrivate], canonicalHost(host) ?? "", port);
  }

  /** Whether a host may have a private address (`--allow-private`); nothing is resolved. */
  admitsPrivate(host: string, port: number): boolean {
    return isAllowed(this.#allowedPrivate, canonicalHost(host) ?? "", port);
  }

  /** `fetch` for MCP servers, by this host's proxies and with its trust. They may be silent for as long as a call lasts. */
  fetch(url: string | URL, request: HostRequest): ReturnType<HostHttp["fetch"]> {
    return this.#serverHttp.fetch(url, request);
  }

  /** The far end of a session's egress socket; undefined when no host is allowed, and there is no such socket. */
  openSession(): EgressServer | undefined {
    if (this.#allowed.length + this.#allowedPrivate.length === 0) return undefined;
    const { env, logger } = this.#options;
    const proxy = new ConnectProxy({
      allowed: this.#allowed,
      allowedPrivate: this.#allowedPrivate,
      proxyFor: (host, port) => proxyFromEnvironment(env, host, port),
      logger,
    });
    return new EgressServer({ proxy });
  }

  /** The far end of one installer's egress socket: the indexes, and the host of its requirement's URL. */
  openInstaller(
    target: { readonly host: string; readonly port: number } | undefined,
    { marksSourceOnly }: { readonly marksSourceOnly: boolean },
  ): EgressServer {
    const { env, logger } = this.#options;
    const index = new IndexProxy({
      marksSourceOnly,
      indexes: this.#indexes,
      http: this.#indexHttp,
      cache: this.#cache,
      netrc: (host) => findNetrcCredentials(host, this.#options),
      logger,
    });
    if (target === undefined) return new EgressServer({ index });
    const host = canonicalHost(target.host) ?? target.host; // one that is no host name is admitted by no rule
    const rule = { host, wildcard: false, ports: [target.port] };
    const proxy = new ConnectProxy({
      allowed: [rule],
      // That host only: an installer has no business with the others.
      allowedPrivate: this.admitsPrivate(host, target.port) ? [rule] : [],
      proxyFor: (host, port) => proxyFromEnvironment(env, host, port),
      logger,
    });
    return new EgressServer({ index, proxy, caBundle: readCaBundles(caBundlePaths(this.#options)).join("") });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#indexHttp, this.#serverHttp].map((http) => http[Symbol.asyncDispose]()));
  }
}

/** The exceptions that a gateway gives its kernels. */
const LOOPBACK_NAMES = ["localhost", "127.0.0.1"];
const INDEX_SILENCE_MS = 60_000;
const CACHE_BYTES = 5 * 1024 ** 3;
