import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { connect as connectTo, type Server } from "node:net";
import type { Duplex } from "node:stream";

import { describe, expect } from "vitest";

import { makeCertificate } from "../helpers/certificate.ts";
import { errorCodeOf, textOf } from "../helpers/client.ts";
import { freePort, serveEverything } from "../helpers/everything.ts";
import { test } from "../helpers/session.ts";

const ECHO = "from mcptools.remote import echo\nprint(echo.run(echo.Params(message='hi')))";

/** Listening on the loopback until it is disposed of. */
async function listening(server: Server, close: () => void) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { port: address.port, [Symbol.dispose]: () => (close(), void server.close()) };
}

/** HTTPS in front of a server on `port`. */
async function withTls({ key, cert }: { key: Buffer; cert: Buffer }, port: number) {
  const server = createTlsServer({ key, cert }, (request, response) => {
    const headers = { ...request.headers, host: `127.0.0.1:${port}` };
    const inner = httpRequest({ port, method: request.method, path: request.url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    inner.on("error", () => response.destroy());
    response.on("close", () => inner.destroy());
    request.pipe(inner);
  });
  return await listening(server, () => server.closeAllConnections());
}

/** A company's proxy: the only one that knows where `mcp.example.invalid` is. */
async function proxyTo(port: number) {
  const asked: string[] = [];
  const tunnels = new Set<Duplex>();
  const server = createServer((_, response) => response.writeHead(403).end());
  server.on("connect", ({ url }, client) => {
    asked.push(url ?? "");
    const inner = connectTo(port, "127.0.0.1", () => client.write("HTTP/1.1 200 OK\r\n\r\n"));
    inner.on("error", () => client.destroy());
    client.on("error", () => inner.destroy());
    tunnels.add(client).add(inner);
    inner.pipe(client).pipe(inner);
  });
  const close = () => tunnels.forEach((tunnel) => tunnel.destroy());
  return Object.assign(await listening(server, close), { asked });
}

describe("an MCP server over HTTP", () => {
  test.for([
    ["streamableHttp", "mcp"],
    ["sse", "sse"],
  ] as const)("that speaks %s is found out, registered and called from a cell", async ([mode, path], { client }) => {
    await using server = await serveEverything(mode, await freePort());
    await client.modules("remote", { url: `${server.origin}/${path}` });
    expect(await client.text(ECHO)).toBe("Echo: hi");
  });

  test("is reached through the host's proxy, with the host's trust", async ({ connect, directory }) => {
    const certificate = makeCertificate(directory.path, "mcp.example.invalid");
    await using everything = await serveEverything("streamableHttp", await freePort());
    using secure = await withTls(certificate, Number(new URL(everything.origin).port));
    using proxy = await proxyTo(secure.port);
    const env = { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}`, SSL_CERT_FILE: certificate.path };
    await using client = await connect({ workspace: directory.make("behind-a-proxy"), env });
    await client.modules("remote", { url: "https://mcp.example.invalid/mcp" });
    expect(await client.text(ECHO)).toBe("Echo: hi");
    expect(new Set(proxy.asked)).toEqual(new Set(["mcp.example.invalid:443"]));
  });

  test("whose status is an error says which, and shows no secret of its headers", async ({ connect, directory }) => {
    using server = await listening(
      createServer(({ headers }, response) => response.writeHead(401).end(`bad token: ${headers.authorization ?? ""}`)),
      () => undefined,
    );
    const env = { REMOTE_TOKEN: "tok-0123456789" };
    await using client = await connect({ workspace: directory.make("refused"), env });
    const url = `http://127.0.0.1:${server.port}/mcp`;
    const result = await client.register("remote", { url, headers: { Authorization: "Bearer ${REMOTE_TOKEN}" } });
    expect(errorCodeOf(result)).toBe("upstream-start-failed");
    expect(textOf(result)).toContain("401");
    expect(textOf(result)).toContain("${REMOTE_TOKEN}");
    expect(textOf(result)).not.toContain("tok-0123456789");
  });
});
