import type { App } from "../app.ts";
import type { LogRecord } from "../common/logger.ts";
import { within } from "../common/time.ts";
import { type Ground, layGround } from "../ground.ts";
import { McpServer } from "../server/mcp-server.ts";
import { VERSION } from "../version.ts";
import type { Invocation } from "./invocation.ts";

/** The promise is 3 s; what is not undone by then, the lifelines of sandboxes and upstreams undo. */
const SHUTDOWN_BACKSTOP_MS = 2_700;
/** A client greets at once. One that does not is not waited for. */
const GREETING_MS = 500;

/** Serves MCP on stdio until the client goes or a signal comes. */
export async function serve({ config }: Invocation): Promise<number> {
  const late: { server?: McpServer } = {};
  const ground = await layGround(config, (record: LogRecord) => late.server?.forwardLog(record));
  const { logger } = ground;
  const server = new McpServer({ version: VERSION, logger, registration: config.registration });
  late.server = server;
  const ended = clientGone();
  await server.serveStdio();
  // What follows keeps the processor busy for a while: the client gets its answer first.
  await within(GREETING_MS, server.greeted);
  const app = await openApp(ground, server);
  server.provide(app.session);
  app.start();
  logger.debug("stopping", { because: await ended });
  setTimeout(() => process.exit(0), SHUTDOWN_BACKSTOP_MS).unref();
  await app[Symbol.asyncDispose]();
  await server.close(); // after a signal the client is still there, and our stdin would keep us alive
  return 0;
}

async function openApp(ground: Ground, server: McpServer): Promise<App> {
  try {
    const { openAppOn } = await import("../app.ts");
    return await openAppOn(ground, { elicitor: () => server.elicitor });
  } catch (error) {
    await server.close();
    throw error;
  }
}

/** Resolves with the reason to stop: the client closed our stdin, or a signal. */
function clientGone(): Promise<string> {
  return new Promise((resolve) => {
    process.stdin.once("end", () => resolve("end of stdin"));
    process.stdin.once("close", () => resolve("end of stdin"));
    process.stdout.on("error", () => resolve("stdout closed"));
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
  });
}
