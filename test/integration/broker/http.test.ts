import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { describe, expect, test } from "vitest";
import { freePort, serveEverything } from "../../helpers/everything.ts";
import { BrokerHarness, call, register } from "./broker-harness.ts";

describe("a real server over HTTP", () => {
  test.each([
    ["streamableHttp", "mcp", undefined],
    ["streamableHttp", "mcp", "http"],
    ["streamableHttp", "mcp", "streamable_http"],
    ["sse", "sse", "sse"],
    ["sse", "sse", undefined],
  ] as const)("of mode %s at /%s is reached with the type %s", async (mode, path, type) => {
    await using harness = new BrokerHarness();
    const port = await freePort();
    await using server = await serveEverything(mode, port);
    const broker = await harness.open();
    const url = `${server.origin}/${path}`;
    const { tools } = await register(broker, "everything", { url, ...(type === undefined ? {} : { type }) });
    expect(tools.length).toBeGreaterThanOrEqual(10);
    const result = await call(broker, "everything", "get-sum", { a: 2, b: 3 });
    expect(JSON.stringify(result.content)).toContain("5");
  });

  test.each([
    ["streamableHttp", "mcp"],
    ["sse", "sse"],
  ] as const)("of mode %s that is killed in the middle of a call is back at the next", async (mode, path) => {
    await using harness = new BrokerHarness();
    const port = await freePort();
    const broker = await harness.open();
    {
      await using first = await serveEverything(mode, port);
      await register(broker, "everything", { url: `${first.origin}/${path}`, timeout: 5 });
      const long = call(broker, "everything", "trigger-long-running-operation", { duration: 60, steps: 60 });
      await call(broker, "everything", "echo", { message: "x" });
      const [end] = await Promise.allSettled([long, first.stop()]);
      expect(end).toMatchObject({ status: "rejected", reason: { code: "upstream-unavailable" } });
    }
    await using second = await serveEverything(mode, port);
    expect(second.running()).toBe(true);
    const result = await call(broker, "everything", "echo", { message: "again" });
    expect(JSON.stringify(result.content)).toContain("again");
  });
});

describe("a hostile HTTP server", () => {
  test("gets headers with secrets at its own origin only", async () => {
    await using harness = new BrokerHarness();
    harness.variables.set("TOKEN", { value: "tok-0123456789", fromEnvFile: false });
    const heard: (string | undefined)[] = [];
    await using other = await listen((request, response) => {
      heard.push(request.headers.authorization);
      response.end();
    });
    const redirect = (_: IncomingMessage, response: ServerResponse) =>
      response.writeHead(307, { location: other.url }).end();
    await using server = await listen(redirect);
    const broker = await harness.open();
    const params = { url: server.url, headers: { Authorization: "Bearer ${TOKEN}" } };
    await expect(register(broker, "x", params)).rejects.toMatchObject({ code: "upstream-start-failed" });
    expect(heard).toEqual([]);
  });

  test("that speaks no TLS is told so without the library's own words", async () => {
    await using harness = new BrokerHarness();
    await using server = await listen((_, response) => response.end());
    const broker = await harness.open();
    const refused = register(broker, "x", { url: server.url.replace("http:", "https:") });
    await expect(refused).rejects.toMatchObject({
      code: "upstream-start-failed",
      message: "The MCP server x could not be started: TLS failed: wrong version number",
    });
  });

  test("shows no beginning of a secret where its long refusal is cut", async () => {
    await using harness = new BrokerHarness();
    harness.variables.set("TOKEN", { value: "tok-0123456789", fromEnvFile: false });
    await using server = await listen(({ headers }, response) =>
      response.writeHead(401).end(`${"x".repeat(485)}${headers.authorization ?? ""}`),
    );
    const broker = await harness.open();
    const refused = register(broker, "x", { url: server.url, headers: { Authorization: "Bearer ${TOKEN}" } });
    const { message } = await refused.then(
      () => new Error(),
      (error: unknown) => error as Error,
    );
    expect(message).toContain("xBearer ");
    expect(message).not.toContain("tok-");
  });

  test("can't fill our memory with an answer that never ends", async () => {
    await using harness = new BrokerHarness();
    const block = Buffer.alloc(1024 * 1024, 0x20);
    await using server = await listen((_, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const pump = () => {
        while (!response.destroyed && response.write(block));
      };
      response.on("drain", pump);
      pump();
    });
    const broker = await harness.open();
    await expect(register(broker, "x", { url: server.url })).rejects.toThrow("larger than");
  });

  test("that never answers is given up", async () => {
    await using harness = new BrokerHarness();
    await using server = await listen(() => undefined);
    const broker = await harness.open();
    await expect(register(broker, "x", { url: server.url, timeout: 0.2 })).rejects.toThrow("within 200 ms");
    const sse = { url: server.url, type: "sse", timeout: 0.2 };
    await expect(register(broker, "x", sse)).rejects.toThrow("within 200 ms");
  });
});

async function listen(answer: (request: IncomingMessage, response: ServerResponse) => unknown) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    url: `http://127.0.0.1:${address.port}/mcp`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
