import { chmod, chown } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { once } from "node:events";
import { ReleaseStack } from "../../common/lifecycle.ts";

export interface ListenerOptions {
  /** The sandbox's run directory; the socket is made in it. */
  readonly directory: string;
  readonly name: "gateway.sock" | "tools.sock" | "egress.sock";
  /** Whom the socket is to belong to: the user inside. */
  readonly uid: number;
  readonly gid: number;
  /** Hostile: anything inside may connect. */
  readonly onConnection: (stream: Duplex) => void;
}

/** `sun_path` holds 108 bytes, 104 on macOS; longer paths are cut silently by listen(). */
const MAX_SOCKET_PATH_BYTES = 100;
/** Open connections a socket admits; the ones over it are closed at once. */
const MAX_CONNECTIONS = 256;

/** Listens on a unix socket that only the sandbox's user may connect to. Disposing ends every connection. */
export async function listenOn(options: ListenerOptions): Promise<AsyncDisposable> {
  const path = join(options.directory, options.name);
  if (Buffer.byteLength(path) >= MAX_SOCKET_PATH_BYTES) throw new Error(`socket path is too long: ${path}`);

  const stack = new ReleaseStack();
  try {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: false }, (socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      socket.on("error", () => socket.destroy());
      options.onConnection(socket);
    });
    server.maxConnections = MAX_CONNECTIONS;
    stack.defer(() => closeServer(server, sockets));
    server.listen(path);
    await once(server, "listening");
    server.on("error", () => undefined); // accept() failing for want of descriptors concerns that connection only
    await chmod(path, 0o600);
    if (process.geteuid?.() === 0) await chown(path, options.uid, options.gid);
    return stack;
  } catch (error) {
    await stack[Symbol.asyncDispose]();
    throw error;
  }
}

async function closeServer(server: Server, sockets: Set<Socket>): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  for (const socket of sockets) socket.destroy();
  await closed;
}
