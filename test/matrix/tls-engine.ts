import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { createServer } from "node:tls";

import { makeCertificate } from "../helpers/certificate.ts";

/** An engine over TCP with TLS that asks for its client's certificate, as `dockerd --tlsverify` does. */
export interface TlsEngine extends Disposable {
  /** What a client needs to reach it. */
  readonly env: Readonly<Record<"DOCKER_HOST" | "DOCKER_TLS_VERIFY" | "DOCKER_CERT_PATH", string>>;
}

/** Puts TLS on a loopback port before the engine of this machine; certificates are made in `directory`. */
export async function serveTls(directory: string): Promise<TlsEngine> {
  const server = makeCertificate(makeDirectory(directory, "server"));
  const certificates = makeDirectory(directory, "client");
  const client = makeCertificate(certificates);
  writeFileSync(join(certificates, "ca.pem"), server.cert);
  const sockets = new Set<Socket>();
  const options = { key: server.key, cert: server.cert, ca: client.cert, requestCert: true, allowHalfOpen: true };
  const proxy = createServer({ ...options, rejectUnauthorized: true }, (incoming) => {
    const engine = connect({ path: "/var/run/docker.sock", allowHalfOpen: true });
    for (const end of [incoming, engine]) {
      sockets.add(end);
      end.once("close", () => sockets.delete(end));
      end.on("error", () => {
        incoming.destroy();
        engine.destroy();
      });
    }
    incoming.pipe(engine).pipe(incoming);
  });
  proxy.on("tlsClientError", (_, socket) => socket.destroy());
  proxy.listen(0, "localhost");
  await once(proxy, "listening");
  const { port } = proxy.address() as AddressInfo; // it listens on a port
  return {
    env: { DOCKER_HOST: `tcp://localhost:${port}`, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: certificates },
    [Symbol.dispose]() {
      proxy.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function makeDirectory(parent: string, name: string): string {
  const path = join(parent, name);
  mkdirSync(path);
  return path;
}
