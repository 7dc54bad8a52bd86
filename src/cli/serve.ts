import { openApp } from "../app.ts";
import type { LogRecord } from "../common/logger.ts";
import { McpServer } from "../server/mcp-server.ts";
import { VERSION } from "../version.ts";
import type { Invocation } from "./invocation.ts";

/** The promise is 3 s; what is not undone by then, the lifelines of sandboxes and upstreams undo. */
const SHUTDOWN_BACKSTOP_MS = 2_700;

/** Serves MCP on stdio until the client goes or a signal comes. */
export async function serve({ config }: Invocation): Promise<number> {
  const late: { server?: McpServer } = {};
  const app = await openApp(config, {
    onLog: (record: LogRecord) => late.server?.forwardLog(record),
    elicit: async (request, options) => (await late.server?.elicit(request, options)) ?? { action: "decline" },
  });
  const server = new McpServer({
    version: VERSION,
    session: app.session,
    logger: app.logger,
    registration: config.registration,
  });
  late.server = server;
  const ended = clientGone();
  await server.serveStdio();
  app.start();
  app.logger.debug("stopping", { because: await ended });
  setTimeout(() => process.exit(0), SHUTDOWN_BACKSTOP_MS).unref();
  await app[Symbol.asyncDispose]();
  return 0;
}

/** Resolves with the reason to stop: the client closed our stdin, or a signal. */
function clientGone(): Promise<string> {
  return new Promise((resolve) => {
    process.stdin.once("end", () => resolve("end of stdin"));
    process.stdin.once("close", () => resolve("end of stdin"));
    process.stdout.once("error", () => resolve("stdout closed"));
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
  });
}
