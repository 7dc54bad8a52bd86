import { existsSync, readFileSync } from "node:fs";
import { watch } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ElicitationRequest } from "../../../src/broker/elicitation.ts";
import type { BrokerOptions } from "../../../src/broker/tool-broker.ts";
import { Deferred } from "../../../src/common/lifecycle.ts";
import { BrokerHarness, call, EVERYTHING, inPackage, MANY_TALENTS, register } from "./broker-harness.ts";

const talents = { command: "node", args: [MANY_TALENTS] };
const everything = { command: "node", args: [EVERYTHING] };

const textOf = (result: { content: readonly unknown[] }) =>
  (result.content as { text?: string }[]).map(({ text }) => text).join("\n");

describe("real servers answer", () => {
  test("text, structure, pictures and links", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "everything", everything);
    expect(textOf(await call(broker, "everything", "echo", { message: "hi" }))).toBe("Echo: hi");
    const weather = await call(broker, "everything", "get-structured-content", { location: "New York" });
    expect(weather.structuredContent).toMatchObject({ temperature: expect.any(Number) as number });
    const picture = await call(broker, "everything", "get-tiny-image");
    expect(picture.content).toContainEqual(expect.objectContaining({ type: "image", mimeType: "image/png" }));
    const links = await call(broker, "everything", "get-resource-links", { count: 2 });
    expect(links.content.filter((block) => (block as { type: string }).type === "resource_link")).toHaveLength(2);
  });

  test("with their own words where arguments are wrong", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "everything", everything);
    const failing = call(broker, "everything", "get-sum", { a: "two" });
    await expect(failing).rejects.toMatchObject({ code: "tool-failed" });
    await expect(failing).rejects.toThrow(/expected number/i);
  });

  test("for files and memories", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const files = [inPackage("@modelcontextprotocol/server-filesystem/dist/index.js"), "${WORKSPACE}"];
    await register(broker, "files", { command: "node", args: files });
    const path = join(harness.workspace, "note.txt");
    await call(broker, "files", "write_file", { path, content: "from the host" });
    expect(readFileSync(path, "utf8")).toBe("from the host");
    const memory = [inPackage("@modelcontextprotocol/server-memory/dist/index.js")];
    const env = { MEMORY_FILE_PATH: join(harness.root, "memory.jsonl") };
    await register(broker, "memory", { command: "node", args: memory, env });
    const relations = [{ from: "a", to: "b", relationType: "knows" }];
    const created = await call(broker, "memory", "create_relations", { relations });
    expect(textOf(created)).toContain("knows");
  });

  test("with their own error where they have no network", async () => {
    await using harness = new BrokerHarness();
    harness.variables.set("BRAVE_API_KEY", { value: "brave-0123456789", fromEnvFile: true });
    const broker = await harness.open();
    const script = inPackage("@modelcontextprotocol/server-brave-search/dist/index.js");
    // A module that makes every name unknown: the server has no network, whatever this machine has.
    const offline = 'import dns from "node:dns"; dns.lookup = (...a) => a.at(-1)(new Error("offline"));';
    const env = {
      BRAVE_API_KEY: "${BRAVE_API_KEY}",
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(offline)}`,
    };
    await register(broker, "brave_search", { command: "node", args: [script], env });
    const searching = call(broker, "brave_search", "brave_web_search", { query: "x" });
    await expect(searching).rejects.toMatchObject({ code: "tool-failed", message: "Error: fetch failed" });
  });
});

describe("what may be called", () => {
  test("is only what the server lists", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    const unlisted = call(broker, "talents", "constructor");
    await expect(unlisted).rejects.toMatchObject({
      code: "unknown-tool",
      hint: expect.stringContaining("echo") as string,
    });
    await expect(call(broker, "__proto__", "echo")).rejects.toMatchObject({ code: "unknown-server" });
  });

  test("with arguments that arrive as they are, placeholders too", async () => {
    await using harness = new BrokerHarness();
    harness.variables.set("SECRET", { value: "0123456789abcdef", fromEnvFile: false });
    const broker = await harness.open();
    await register(broker, "talents", talents);
    const args = { text: "${SECRET} ${WORKSPACE}", nested: [{ a: null }], ключ: "ü" };
    expect((await call(broker, "talents", "echo", args)).structuredContent).toEqual(args);
  });

  test("a hundred times at once", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    const results = await Promise.all(Array.from({ length: 100 }, (_, n) => call(broker, "talents", "echo", { n })));
    expect(results.map(({ structuredContent }) => structuredContent)).toEqual(results.map((_, n) => ({ n })));
  });

  test("with megabytes in return, but not without end", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    const MiB = 1024 * 1024;
    expect(textOf(await call(broker, "talents", "big", { bytes: 10 * MiB }))).toHaveLength(10 * MiB);
    const tooLarge = call(broker, "talents", "big", { bytes: 33 * MiB });
    await expect(tooLarge).rejects.toMatchObject({ code: "tool-result-too-large" });
    await call(broker, "talents", "echo");
  });
});

describe("secrets that an upstream says", () => {
  const SECRET = 's3cret/"value"+0123';
  const forms = [SECRET, encodeURIComponent(SECRET), JSON.stringify(SECRET).slice(1, -1)];

  async function tellTale(harness: BrokerHarness) {
    harness.variables.set("MY_SECRET", { value: SECRET, fromEnvFile: false });
    const broker = await harness.open();
    const registration = await register(broker, "talents", { ...talents, env: { SECRET: "${MY_SECRET}" } });
    return { broker, registration };
  }

  const expectNone = (value: unknown) => {
    const text = JSON.stringify(value);
    for (const form of forms) {
      expect(text).not.toContain(form);
      expect(text).not.toContain(JSON.stringify(form).slice(1, -1));
    }
    expect(text).toContain("${MY_SECRET}");
  };

  test("are taken out of descriptions, schemas and instructions", async () => {
    await using harness = new BrokerHarness();
    const { registration } = await tellTale(harness);
    const told = registration.tools.find(({ name }) => name === "secrets");
    expect(told).toMatchObject({ description: "Knows ${MY_SECRET}", inputSchema: { title: "${MY_SECRET}" } });
    expect(registration.instructions).toBe("Be careful with ${MY_SECRET}");
  });

  test("are taken out of every block of a result", async () => {
    await using harness = new BrokerHarness();
    const { broker } = await tellTale(harness);
    const result = await call(broker, "talents", "secrets");
    expectNone(result);
    const base64 = (result.content[1] as { text: string }).text;
    expect(base64).toContain("${MY_SECRET}");
    expect(Buffer.from(base64.replace("${MY_SECRET}", ""), "base64").toString()).not.toContain("cret");
  });

  test.each(["fail", "protocol-error", "die"])("are taken out of the error of %s", async (tool) => {
    await using harness = new BrokerHarness();
    const { broker } = await tellTale(harness);
    const error = (await call(broker, "talents", tool).catch((thrown: unknown) => thrown)) as Error;
    expectNone(error.message);
  });

  test("are taken out of progress", async () => {
    await using harness = new BrokerHarness();
    const { broker } = await tellTale(harness);
    const messages: unknown[] = [];
    await call(broker, "talents", "progress", {}, { onProgress: (progress) => messages.push(progress) });
    expect(messages[0]).toEqual({ progress: 1, total: 8, message: "step 1 of ${MY_SECRET}" });
    expectNone(messages);
  });

  test("stay where --no-redact says so", async () => {
    await using harness = new BrokerHarness();
    harness.variables.set("MY_SECRET", { value: SECRET, fromEnvFile: false });
    const broker = await harness.open({ noRedact: ["MY_SECRET"] });
    await register(broker, "talents", { ...talents, env: { SECRET: "${MY_SECRET}" } });
    await expect(call(broker, "talents", "fail")).rejects.toThrow(SECRET);
  });
});

describe("time", () => {
  test("runs out for a call that says nothing, and the server hears of it", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const file = join(harness.root, "cancelled");
    await register(broker, "talents", { ...talents, env: { CANCELLED_FILE: file } });
    const waiting = call(broker, "talents", "wait", {}, { timeoutMs: 200 });
    await expect(waiting).rejects.toMatchObject({ code: "tool-timeout" });
    await expect(waiting).rejects.toThrow("talents.wait did not answer within 200 ms");
    await appears(file);
  });

  test("does not run out while there is progress", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    expect(textOf(await call(broker, "talents", "progress", {}, { timeoutMs: 400 }))).toBe("done");
  });

  test("is cut short by cancellation, and the server hears of it", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const file = join(harness.root, "cancelled");
    await register(broker, "talents", { ...talents, env: { CANCELLED_FILE: file } });
    const abort = new AbortController();
    const waiting = call(broker, "talents", "wait", {}, { signal: abort.signal });
    await call(broker, "talents", "echo");
    abort.abort();
    await expect(waiting).rejects.toMatchObject({ code: "tool-cancelled" });
    await appears(file);
  });
});

describe("questions", () => {
  test("reach our user with the name of who asks, and the answer goes back", async () => {
    await using harness = new BrokerHarness();
    const asked: ElicitationRequest[] = [];
    const broker = await harness.open({
      elicitor: () => (request) => {
        asked.push(request);
        return Promise.resolve({ action: "accept", content: { name: "Ada", check: true } });
      },
    });
    const { tools } = await register(broker, "everything", everything);
    expect(tools.map(({ name }) => name)).toContain("trigger-elicitation-request");
    const result = await call(broker, "everything", "trigger-elicitation-request");
    expect(asked).toMatchObject([
      { server: "everything", message: expect.stringMatching(/^The MCP server everything asks: /) as string },
    ]);
    expect(textOf(result)).toContain("Ada");
  });

  test("and sampling are not offered where nobody answers", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const { tools } = await register(broker, "everything", everything);
    const names = tools.map(({ name }) => name);
    expect(names).not.toContain("trigger-elicitation-request");
    expect(names).not.toContain("trigger-sampling-request");
    expect(names).not.toContain("get-roots-list");
  });
});

test("tools that appear are announced and callable", async () => {
  await using harness = new BrokerHarness();
  const announced = new Deferred<string[]>();
  const onToolsChanged: BrokerOptions["onToolsChanged"] = (_, tools) =>
    announced.resolve(tools.map(({ name }) => name));
  const broker = await harness.open({ onToolsChanged });
  await register(broker, "talents", talents);
  await call(broker, "talents", "grow");
  expect(await announced.promise).toContain("grown-12");
});

async function appears(file: string): Promise<void> {
  const changes = watch(join(file, ".."));
  while (!existsSync(file)) await changes[Symbol.asyncIterator]().next();
}
