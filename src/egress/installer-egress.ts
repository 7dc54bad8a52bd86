import { join } from "node:path";

import type { Logger } from "../common/logger.ts";
import { type AllowRule, parseAllowRule } from "./allow-list.ts";
import { ConnectProxy } from "./connect-proxy.ts";
import { EgressServer } from "./egress-server.ts";
import { createHostDispatcher, readCaBundles } from "./host-http.ts";
import { caBundlePaths, findNetrcCredentials, resolveIndexes } from "./index-config.ts";
import { IndexProxy } from "./index-proxy.ts";
import { proxyFromEnvironment } from "./upstream-proxy.ts";
import { WheelCache } from "./wheel-cache.ts";

export interface InstallerEgressOptions {
  readonly indexUrl: string | undefined;
  readonly extraIndexUrls: readonly string[];
  /** The server's own environment and home directory: pip's configuration, proxies, CA bundle, netrc. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** State directory: the wheel cache lies there. */
  readonly stateDir: string;
  readonly logger: Logger;
}

export interface InstallerEgress {
  readonly indexCount: number;
  /** What one installer may reach: the indexes, and the host that its requirement's URL names. */
  open(target: { readonly host: string; readonly port: number } | undefined): EgressServer;
}

const MAX_CACHE_BYTES = 5 * 2 ** 30;

/** The way out of installers: the configured indexes through this host, with its proxies, certificates and credentials. */
export function createInstallerEgress(options: InstallerEgressOptions): InstallerEgress {
  const { env, home, logger } = options;
  const indexes = resolveIndexes(options);
  const caPaths = caBundlePaths({ env, home });
  const index = new IndexProxy({
    indexes,
    dispatcher: createHostDispatcher({ env, caBundlePaths: caPaths }),
    cache: new WheelCache({ directory: join(options.stateDir, "wheels"), maxBytes: MAX_CACHE_BYTES }),
    netrc: (host) => findNetrcCredentials(host, { env, home }),
    logger,
  });
  const proxyTo = (rule: AllowRule) =>
    new ConnectProxy({
      allowed: [rule],
      allowedPrivate: [],
      proxyFor: (host, port) => proxyFromEnvironment(env, host, port),
      logger,
    });
  return {
    indexCount: indexes.length,
    open: (target) => {
      if (target === undefined) return new EgressServer({ index });
      const rule = parseAllowRule(
        `${target.host.includes(":") ? `[${target.host}]` : target.host}:${target.port}`,
        "the requirement's URL",
      );
      return new EgressServer({ index, proxy: proxyTo(rule), caBundle: readCaBundles(caPaths).join("\n") });
    },
  };
}
