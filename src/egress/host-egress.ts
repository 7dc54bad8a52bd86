import { join } from "node:path";
import type { Dispatcher } from "undici";
import type { Logger } from "../common/logger.ts";
import { ConnectProxy } from "./connect-proxy.ts";
import { EgressServer } from "./egress-server.ts";
import { createHostDispatcher, readCaBundles } from "./host-http.ts";
import { caBundlePaths, findNetrcCredentials, resolveIndexes, type PackageIndex } from "./index-config.ts";
import { IndexProxy } from "./index-proxy.ts";
import { proxyFromEnvironment } from "./upstream-proxy.ts";
import { WheelCache } from "./wheel-cache.ts";

export interface HostEgressOptions {
  /** `--index-url` and `--extra-index-url`. */
  readonly indexUrl: string | undefined;
  readonly extraIndexUrls: readonly string[];
  /** The server's own environment: pip's and proxies' variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** ipybox's state directory; the cache of downloads lies in it. */
  readonly stateDir: string;
  readonly logger: Logger;
}

/** What installers may reach through this host, as its user configured pip. Nothing is opened before it is needed. */
export class HostEgress implements AsyncDisposable {
  readonly #options: HostEgressOptions;
  readonly #indexes: readonly PackageIndex[];
  readonly #cache: WheelCache;
  #http: { readonly dispatcher: Dispatcher; readonly caBundle: string } | undefined;

  /** Throws `invalid-configuration` when an index is no http(s) URL. */
  constructor(options: HostEgressOptions) {
    this.#options = options;
    this.#indexes = resolveIndexes(options);
    this.#cache = new WheelCache({ directory: join(options.stateDir, "wheels"), maxBytes: CACHE_BYTES });
  }

  get indexCount(): number {
    return this.#indexes.length;
  }

  /** The far end of one installer's egress socket: the indexes, and the host of its requirement's URL. */
  openInstaller(target?: { readonly host: string; readonly port: number }): EgressServer {
    const { env, home, logger } = this.#options;
    const { dispatcher, caBundle } = (this.#http ??= this.#openHttp());
    const index = new IndexProxy({
      indexes: this.#indexes,
      dispatcher,
      cache: this.#cache,
      netrc: (host) => findNetrcCredentials(host, { env, home }),
      logger,
    });
    if (target === undefined) return new EgressServer({ index });
    const proxy = new ConnectProxy({
      allowed: [{ host: target.host, wildcard: false, ports: [target.port] }],
      allowedPrivate: [],
      proxyFor: (host, port) => proxyFromEnvironment(env, host, port),
      logger,
    });
    return new EgressServer({ index, proxy, caBundle });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#http?.dispatcher.destroy();
  }

  #openHttp(): { readonly dispatcher: Dispatcher; readonly caBundle: string } {
    const paths = caBundlePaths(this.#options);
    return {
      dispatcher: createHostDispatcher({ env: this.#options.env, caBundlePaths: paths }),
      caBundle: readCaBundles(paths).join(""),
    };
  }
}

const CACHE_BYTES = 5 * 1024 ** 3;
