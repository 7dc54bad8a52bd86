import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

import { upstream } from "./client.ts";

/** The real server everything over HTTP, at `/mcp` or `/sse`; disposing kills it. */
export async function serveEverything(mode: "streamableHttp" | "sse", port: number) {
  const env = { PATH: process.env["PATH"], PORT: String(port) };
  const { command, args } = upstream("everything", mode);
  const server = spawn(command, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  for await (const line of createInterface({ input: server.stderr })) {
    if (/listening|running/i.test(line)) break;
  }
  server.stderr.resume();
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    server.kill("SIGKILL");
    await once(server, "exit");
  };
  return {
    origin: `http://127.0.0.1:${port}`,
    running: () => server.exitCode === null,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A port that nothing listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
