import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EngineHttp, EngineRefusal } from "../../../src/sandbox/docker/engine-http.ts";
import { makeCertificate } from "../../helpers/certificate.ts";

let scratch = "";
const servers: Server[] = [];
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "test-engine-http-"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  await rm(scratch, { recursive: true });
});

async function onSocket(answer: RequestListener): Promise<EngineHttp> {
  const path = join(scratch, "engine.sock");
  const server = createServer(answer).listen(path);
  servers.push(server);
  await once(server, "listening");
  return new EngineHttp({ type: "socket", address: `unix://${path}`, path });
}

const echo: RequestListener = (request, response) => {
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (chunk: string) => (body += chunk));
  request.on("end", () => {
    const { method, url, headers } = request;
    response.end(JSON.stringify({ method, url, type: headers["content-type"], body }));
  });
};

describe("HTTP to an engine", () => {
  it("sends lists repeated and objects as JSON, and leaves out what is undefined", async () => {
    const http = await onSocket(echo);
    const query = {
      all: true,
      since: 5,
      name: undefined,
      changes: ["LABEL a=b", "CMD x"],
      filters: { label: ["a&b"] },
    };
    const answer = await http.json({ method: "GET", path: "/x", query });
    const expected = `/x?all=true&since=5&changes=LABEL+a%3Db&changes=CMD+x&filters=${encodeURIComponent('{"label":["a&b"]}')}`;
    expect(answer).toEqual({ method: "GET", url: expected, body: "" });
  });

  it("sends a body as JSON, and a tar as it comes", async () => {
    const http = await onSocket(echo);
    expect(await http.json({ method: "POST", path: "/x", body: { A: 1 } })).toMatchObject({
      type: "application/json",
      body: '{"A":1}',
    });
    expect(await http.json({ method: "POST", path: "/x", tar: Readable.from(["ta", "r"]) })).toMatchObject({
      type: "application/x-tar",
      body: "tar",
    });
  });

  it("is undefined where the answer is empty", async () => {
    const http = await onSocket((_request, response) => response.writeHead(204).end());
    expect(await http.json({ method: "DELETE", path: "/x" })).toBeUndefined();
  });

  it("fails with the engine's status and words", async () => {
    const http = await onSocket((request, response) => {
      response.writeHead(request.url === "/json" ? 409 : 502);
      response.end(request.url === "/json" ? '{"message":"in use "}' : "Bad gateway\n");
    });
    await expect(http.json({ method: "POST", path: "/json" })).rejects.toThrow(new EngineRefusal(409, "in use"));
    const refusal = http.stream({ method: "POST", path: "/html" });
    await expect(refusal).rejects.toMatchObject({ statusCode: 502, message: "Bad gateway" });
  });

  it("ends with the caller's reason, before the answer and during it", async () => {
    const asked = new AbortController();
    const answered = new AbortController();
    const http = await onSocket((request, response) => {
      if (request.url === "/silent") asked.abort(new Error("enough"));
      else response.write("first");
    });
    await expect(http.json({ method: "GET", path: "/silent", signal: asked.signal })).rejects.toThrow("enough");
    const stream = await http.stream({ method: "GET", path: "/endless", signal: answered.signal });
    const chunks: string[] = [];
    const reading = (async () => {
      for await (const chunk of stream) {
        chunks.push(String(chunk));
        answered.abort();
      }
    })();
    await expect(reading).rejects.toThrow();
    expect(chunks).toEqual(["first"]);
  });

  it("fails when what is sent fails", async () => {
    const http = await onSocket(echo);
    const tar = new Readable({ read: () => tar.destroy(new Error("no such directory")) });
    await expect(http.json({ method: "POST", path: "/x", tar })).rejects.toThrow("no such directory");
  });

  it("shows its certificate over TLS, and talks only to an engine of the given authority", async () => {
    const { key, cert } = makeCertificate(scratch);
    const server = createTlsServer({ key, cert, ca: cert, requestCert: true, rejectUnauthorized: true }, echo).listen(
      0,
    );
    servers.push(server);
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const endpoint = { type: "tcp", address: "", host: "localhost", port } as const;
    const http = new EngineHttp({ ...endpoint, tls: { ca: cert, cert, key } });
    expect(await http.json({ method: "GET", path: "/x" })).toMatchObject({ url: "/x" });
    const other = makeCertificate(scratch);
    const stranger = new EngineHttp({ ...endpoint, tls: { ...other, ca: other.cert } });
    await expect(stranger.json({ method: "GET", path: "/x" })).rejects.toMatchObject({
      code: "DEPTH_ZERO_SELF_SIGNED_CERT",
    });
  });
});
