import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { Agent, createServer, request, type RequestListener, type Server } from "node:http";
import { connect, createServer as createNetServer, type AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silentLogger } from "../../../src/common/logger.ts";
import { canonicalHost, isAllowed, parseAllowRule, splitTarget } from "../../../src/egress/allow-list.ts";
import { ConnectProxy } from "../../../src/egress/connect-proxy.ts";
import { EgressServer } from "../../../src/egress/egress-server.ts";
import { HostHttp } from "../../../src/egress/host-http.ts";
import { resolveIndexes } from "../../../src/egress/index-config.ts";
import { IndexProxy } from "../../../src/egress/index-proxy.ts";
import { WheelCache } from "../../../src/egress/wheel-cache.ts";

const WHEEL = Buffer.alloc(300_000, "wheel");
const SHA256 = createHash("sha256").update(WHEEL).digest("hex");

describe("egress", () => {
  let directory: string;
  const closing: (() => unknown)[] = [];
  const seen: { url: string; authorization: string | undefined }[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "ipybox-egress-"));
    seen.splice(0);
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
    await rm(directory, { recursive: true });
  });

  const listen = async (server: Server | ReturnType<typeof createNetServer>): Promise<number> => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closing.push(() => server.close());
    return (server.address() as AddressInfo).port; // listening on a port, so not a path
  };

  /** A package index of this test with credentials `ann:secret`. */
  const startIndex = async (hash = SHA256): Promise<number> => {
    const listener: RequestListener = (incoming, response) => {
      seen.push({ url: incoming.url ?? "", authorization: incoming.headers.authorization });
      if (incoming.headers.authorization !== `Basic ${Buffer.from("ann:secret").toString("base64")}`) {
        response.writeHead(401).end("who are you?");
      } else if (incoming.url === "/simple/a-b/") {
        response.setHeader("content-type", "text/html");
        response.end(
          `<a href="/f/a_b-1-py3-none-any.whl#sha256=${hash}" data-core-metadata="true">a_b-1-py3-none-any.whl</a>`,
        );
      } else if (incoming.url === "/f/a_b-1-py3-none-any.whl") {
        response.end(WHEEL);
      } else if (incoming.url === "/f/a_b-1-py3-none-any.whl.metadata") {
        response.end("Name: a-b");
      } else {
        response.writeHead(404).end();
      }
    };
    return await listen(createServer(listener));
  };

  const openIndex = (indexUrl: string, { isDiskLow = false, marksSourceOnly = false } = {}): EgressServer => {
    const http = new HostHttp({ env: {}, caBundlePaths: [], maxSilenceMs: 60_000, maxConnections: 16 });
    closing.push(() => http[Symbol.asyncDispose]());
    return new EgressServer({
      index: new IndexProxy({
        indexes: resolveIndexes({ indexUrl, extraIndexUrls: [], env: {}, home: directory, readFile: () => undefined }),
        http,
        cache: new WheelCache({
          directory: join(directory, "cache"),
          maxBytes: 1e9,
          isDiskLow: () => Promise.resolve(isDiskLow),
        }),
        marksSourceOnly,
        netrc: () => undefined,
        logger: silentLogger,
      }),
    });
  };

  const openProxy = (
    allowed: string[],
    allowedPrivate: string[],
    resolve?: (host: string) => Promise<string[]>,
    idleTimeoutMs?: number,
  ) =>
    new EgressServer({
      proxy: new ConnectProxy({
        allowed: allowed.map((rule) => parseAllowRule(rule, "--allow-domain")),
        allowedPrivate: allowedPrivate.map((rule) => parseAllowRule(rule, "--allow-private")),
        proxyFor: () => undefined,
        logger: silentLogger,
        ...(resolve && { resolve }),
        ...(idleTimeoutMs !== undefined && { idleTimeoutMs }),
      }),
    });

  /** A client's connection to the server, over a unix socket as from a sandbox. */
  const dial = async (egress: EgressServer): Promise<() => Socket> => {
    const path = join(directory, `${closing.length}.sock`);
    const server = createNetServer((stream) => egress.accept(stream));
    await new Promise<void>((resolve) => server.listen(path, resolve));
    closing.push(
      () => server.close(),
      () => egress[Symbol.asyncDispose](),
    );
    return () => connect(path);
  };

  const get = async (open: () => Socket, path: string): Promise<{ status: number; body: Buffer }> => {
    const agent = new Agent();
    agent.createConnection = open;
    return await new Promise((resolve, reject) => {
      const outgoing = request({ agent, path, host: "index" }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
        response.once("error", reject);
      });
      outgoing.once("error", reject).end();
    });
  };

  const fileAddress = (page: Buffer): string => {
    const parsed = JSON.parse(page.toString()) as { files: { url: string }[] }; // rendered by our own code
    return parsed.files[0]?.url ?? "";
  };

  it("serves an index that wants credentials without showing them", async () => {
    const port = await startIndex();
    const open = await dial(openIndex(`http://ann:secret@127.0.0.1:${port}/simple/`));
    const page = await get(open, "/index/0/simple/A.b/");
    expect(page.status).toBe(200);
    expect(page.body.toString()).not.toMatch(/secret|127\.0\.0\.1/);
    const file = await get(open, fileAddress(page.body));
    expect(file.body.equals(WHEEL)).toBe(true);
    expect((await get(open, `${fileAddress(page.body)}.metadata`)).body.toString()).toBe("Name: a-b");
    expect(seen.every(({ authorization }) => authorization !== undefined)).toBe(true);
  });

  it("serves a file the second time from the cache", async () => {
    const port = await startIndex();
    const open = await dial(openIndex(`http://ann:secret@127.0.0.1:${port}/simple/`));
    const address = fileAddress((await get(open, "/index/0/simple/a-b/")).body);
    await get(open, address);
    expect((await get(open, address)).body.equals(WHEEL)).toBe(true);
    expect(seen.filter(({ url }) => url.endsWith(".whl"))).toHaveLength(1);
  });

  it("breaks off a file with a wrong hash and does not cache it", async () => {
    const port = await startIndex("0".repeat(64));
    const open = await dial(openIndex(`http://ann:secret@127.0.0.1:${port}/simple/`));
    const address = fileAddress((await get(open, "/index/0/simple/a-b/")).body);
    await expect(get(open, address)).rejects.toThrow();
    expect(await readdir(join(directory, "cache"))).toEqual([]);
  });

  it("keeps nothing on a disk that is almost full, and checks what it passes on all the same", async () => {
    for (const [hash, arrives] of [
      [SHA256, true],
      ["0".repeat(64), false],
    ] as const) {
      const port = await startIndex(hash);
      const open = await dial(openIndex(`http://ann:secret@127.0.0.1:${port}/simple/`, { isDiskLow: true }));
      const file = get(open, fileAddress((await get(open, "/index/0/simple/a-b/")).body));
      if (arrives) expect((await file).body.equals(WHEEL)).toBe(true);
      else await expect(file).rejects.toThrow();
    }
    expect(await readdir(join(directory, "cache"))).toEqual([]);
  });

  it.each([
    ["/index/0/simple/nope/", 404],
    ["/index/1/simple/a-b/", 404],
    ["/index/0/files/00000000000000000000000000000000/x.whl", 404],
    ["/index/0/simple/../../etc/passwd", 404],
    ["/index/0/simple/a-b%2f..%2f..%2fadmin/", 404],
    ["/", 404],
  ])("answers %s with %i", async (path, status) => {
    const port = await startIndex();
    const open = await dial(openIndex(`http://ann:secret@127.0.0.1:${port}/simple/`));
    expect((await get(open, path)).status).toBe(status);
  });

  it("says that an index can't be reached", async () => {
    const open = await dial(openIndex("http://127.0.0.1:1/simple/"));
    const answer = await get(open, "/index/0/simple/a-b/");
    expect(answer.status).toBe(502);
    expect(answer.body.toString()).toContain("can't be reached");
  });

  const exchange = async (open: () => Socket, text: string): Promise<string> => {
    const socket = open();
    let answer = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (answer += chunk));
    const ended = new Promise((resolve, reject) => socket.once("end", resolve).once("error", reject));
    socket.write(text);
    await ended;
    socket.destroy();
    return answer;
  };

  it("tunnels to an admitted host, at the address that was checked", async () => {
    const port = await listen(createNetServer((socket) => socket.end("hello from the server")));
    const names: string[] = [];
    const egress = openProxy([], [`host.example:${port}`], (host) => {
      names.push(host);
      return Promise.resolve(["127.0.0.1"]);
    });
    const answer = await exchange(await dial(egress), `CONNECT Host.Example.:${port} HTTP/1.1\r\nhost: x\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1.1 200 .*\r\n\r\nhello from the server$/s);
    expect(names).toEqual(["host.example"]);
  });

  it("has 64 connections at most, and room again when one of them ends", async () => {
    const port = await listen(createNetServer((socket) => socket.on("error", () => undefined).pipe(socket)));
    const egress = openProxy([], [`host.example:${port}`], () => Promise.resolve(["127.0.0.1"]));
    const open = await dial(egress);
    const tunnel = async () => {
      const socket = open().on("error", () => undefined);
      socket.write(`CONNECT host.example:${port} HTTP/1.1\r\nhost: x\r\n\r\n`);
      return { socket, answer: String(await once(socket, "data")) };
    };
    const tunnels = await Promise.all(Array.from({ length: 64 }, tunnel));
    for (const { answer } of tunnels) expect(answer).toMatch(/^HTTP\/1.1 200 /);
    expect((await tunnel()).answer).toMatch(/^HTTP\/1.1 503 [^]*more than 64 connections are open/);
    const [first] = tunnels;
    const ended = once(first?.socket ?? new Socket(), "close");
    first?.socket.end();
    await ended;
    expect((await tunnel()).answer).toMatch(/^HTTP\/1.1 200 /);
  });

  it("ends a connection that is silent both ways for long, and has room for another then", async () => {
    const silent: Socket[] = [];
    const port = await listen(createNetServer((socket) => silent.push(socket.resume())));
    const egress = openProxy([], [`host.example:${port}`], () => Promise.resolve(["127.0.0.1"]), 50);
    const open = await dial(egress);
    const tunnel = await exchange(open, `CONNECT host.example:${port} HTTP/1.1\r\nhost: x\r\n\r\n`);
    expect(tunnel).toMatch(/^HTTP\/1.1 200 /);
    const request = `GET http://host.example:${port}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`;
    expect(await exchange(open, request)).toMatch(/^HTTP\/1.1 502 /);
    expect(silent.map(({ readableEnded }) => readableEnded)).toEqual([true, true]);
  });

  it("refuses a name that is not on the list before resolving it, and names the option", async () => {
    const names: string[] = [];
    const egress = openProxy(["example.org"], [], (host) => {
      names.push(host);
      return Promise.resolve(["1.1.1.1"]);
    });
    const answer = await exchange(await dial(egress), "CONNECT evil.test:443 HTTP/1.1\r\nhost: x\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1.1 403 [^]*--allow-domain evil\.test/);
    expect(names).toEqual([]);
  });

  it.each(["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1", "fd00::1"])(
    "refuses an admitted name that resolves to %s",
    async (address) => {
      const egress = openProxy(["example.org"], [], () => Promise.resolve([address]));
      const answer = await exchange(await dial(egress), "CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n");
      expect(answer).toMatch(/^HTTP\/1.1 403 [^]*--allow-private example\.org/);
    },
  );

  it.each(["10.0.0.1:8443", "[fd00::1]:8443", "[fd00::1]:443"])(
    "names the option that admits %s, its port too",
    async (target) => {
      const asking = `CONNECT ${target} HTTP/1.1\r\nhost: x\r\n\r\n`;
      const option = /--allow-private (\S+) to admit it/;
      const refused = await exchange(await dial(openProxy([], [])), asking);
      const [, rule = ""] = option.exec(refused) ?? [];
      const onTheList = await exchange(await dial(openProxy([rule], [])), asking);
      expect(option.exec(onTheList)?.[1]).toBe(rule);
      const { host = "", port = 0 } = splitTarget(target) ?? {};
      expect(isAllowed([parseAllowRule(rule, "--allow-private")], canonicalHost(host) ?? "", port)).toBe(true);
    },
  );

  it.each(["2130706433:443", "0x7f.1:443", "127.1:80", "[::ffff:127.0.0.1]:443", "localhost:443", "example.org"])(
    "refuses CONNECT %s",
    async (target) => {
      const egress = openProxy(["example.org"], []);
      const answer = await exchange(await dial(egress), `CONNECT ${target} HTTP/1.1\r\nhost: x\r\n\r\n`);
      expect(answer).toMatch(/^HTTP\/1.1 40[03] /);
    },
  );

  it("forwards plain HTTP without hop-by-hop headers", async () => {
    const port = await listen(
      createServer((incoming, response) => {
        response.end(
          `${incoming.method ?? ""} ${incoming.url ?? ""} ${incoming.headers["proxy-authorization"] ?? "none"}`,
        );
      }),
    );
    const egress = openProxy([], [`host.example:${port}`], () => Promise.resolve(["127.0.0.1"]));
    const answer = await exchange(
      await dial(egress),
      `GET http://host.example:${port}/a?b=c HTTP/1.1\r\nhost: other\r\nproxy-authorization: Basic eA==\r\nconnection: close\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 200 /);
    expect(answer).toContain("GET /a?b=c none");
  });

  it.each([
    ["169.254.169.254", "--allow-private 169.254.169.254"],
    ["localhost:8080", "--allow-private localhost:8080"],
    ["api.localhost", "--allow-private api.localhost"],
    ["example.com", "--allow-domain example.com"],
  ])("answers a plain request for %s, which is not admitted, with %s, which would admit it", async (host, option) => {
    const egress = openProxy(["example.org"], []);
    const request = `GET http://${host}/latest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`;
    const answer = await exchange(await dial(egress), request);
    expect(answer).toMatch(/^HTTP\/1.1 403 /);
    expect(answer).toContain(`start ipybox with ${option} to admit it`);
  });

  it("closes what is open when it is disposed", async () => {
    const egress = openProxy(["example.org"], []);
    const open = await dial(egress);
    const socket = open();
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => undefined); // a reset is as good an end
    socket.resume().write("GET / HTTP/1.1\r\n");
    await new Promise((resolve) => socket.once("connect", resolve));
    await egress[Symbol.asyncDispose]();
    const late = open().on("error", () => undefined);
    await new Promise((resolve) => late.resume().once("close", resolve));
    socket.end();
    await closed;
  });
});
