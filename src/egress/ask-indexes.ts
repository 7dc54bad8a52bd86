import { messageOf } from "../common/errors.ts";
import { HostHttp } from "./host-http.ts";
import {
  authorizationFor,
  caBundlePaths,
  findNetrcCredentials,
  type IndexSources,
  resolveIndexes,
} from "./index-config.ts";
import { SIMPLE_ACCEPT } from "./simple-index.ts";

export interface IndexAnswer {
  /** Without credentials. */
  readonly url: string;
  /** Why nothing can be had from it; undefined when it answers. */
  readonly problem: string | undefined;
}

/** Asks each package index that installs would use, as they would. Throws `invalid-configuration` for what is no URL. */
export async function askIndexes(sources: IndexSources): Promise<IndexAnswer[]> {
  const indexes = resolveIndexes(sources);
  const options = { env: sources.env, caBundlePaths: caBundlePaths(sources) };
  await using http = new HostHttp({ ...options, maxSilenceMs: PATIENCE_MS, maxConnections: 1 });
  const ask = async (index: (typeof indexes)[number]): Promise<string | undefined> => {
    const url = new URL("pip/", index.url);
    const authorization = authorizationFor(url, index, (host) => findNetrcCredentials(host, sources));
    try {
      const { ok, status, body } = await http.fetch(url, {
        headers: { "user-agent": "ipybox", accept: SIMPLE_ACCEPT, ...authorization },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      await body?.cancel();
      // One that does not have that project works none the less.
      return ok || status === 404 ? undefined : `answers ${status}`;
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      return `does not answer (${messageOf(cause)})`;
    }
  };
  return await Promise.all(indexes.map(async (index) => ({ url: index.url.href, problem: await ask(index) })));
}

/** Somebody waits for it at a terminal. */
const PATIENCE_MS = 10_000;
