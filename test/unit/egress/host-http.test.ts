import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import { afterEach, expect, test } from "vitest";

import { HostHttp } from "../../../src/egress/host-http.ts";
import { ReleaseStack } from "../../../src/common/lifecycle.ts";

let releases = new ReleaseStack();
afterEach(async () => {
  await releases[Symbol.asyncDispose]();
  releases = new ReleaseStack();
});

async function listen(answer: RequestListener): Promise<Server & { readonly url: string }> {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  releases.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo; // listening on a port, so not a path
  return Object.assign(server, { url: `http://127.0.0.1:${port}` });
}

function open(env: Record<string, string>): HostHttp {
  return releases.use(new HostHttp({ env, caBundlePaths: [], maxSilenceMs: 5000, maxConnections: 1 }));
}

const get = async (http: HostHttp, url: string) => (await http.fetch(url, { headers: {} })).text();

test("plain HTTP is forwarded by the proxy, names unresolved", async () => {
  const proxy = await listen((request, response) => response.end(`${request.method ?? ""} ${request.url ?? ""}`));
  const http = open({ HTTP_PROXY: proxy.url, NO_PROXY: "other.invalid" });
  expect(await get(http, "http://mcp.invalid/path?q=1")).toMatch(/^GET http:\/\/mcp\.invalid(:80)?\/path\?q=1$/);
});

test("a body goes through the proxy, and a redirect can be left alone", async () => {
  const proxy = await listen((request, response) => {
    response.writeHead(307, { location: "http://elsewhere.invalid/" });
    request.pipe(response);
  });
  const http = open({ http_proxy: proxy.url });
  const answer = await http.fetch("http://mcp.invalid/", {
    method: "POST",
    headers: {},
    body: "sent",
    redirect: "manual",
  });
  expect([answer.status, await answer.text()]).toEqual([307, "sent"]);
});

test("the loopback and what NO_PROXY names are reached directly", async () => {
  const direct = await listen((_, response) => response.end("direct"));
  const http = open({ HTTP_PROXY: "http://proxy.invalid:3128", NO_PROXY: "no-proxy.invalid" });
  expect(await get(http, direct.url)).toBe("direct");
  expect(await get(http, direct.url.replace("127.0.0.1", "localhost"))).toBe("direct");
  await expect(get(http, "http://no-proxy.invalid/")).rejects.toMatchObject({
    cause: { hostname: "no-proxy.invalid" },
  });
  await expect(get(http, "http://mcp.invalid/")).rejects.toMatchObject({ cause: { hostname: "proxy.invalid" } });
});
