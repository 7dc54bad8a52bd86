import { readFileSync, realpathSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { basename, join } from "node:path";
import { writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { freePort } from "../../helpers/everything.ts";
import { BrokerHarness, call, EVERYTHING, inPackage, MANY_TALENTS, register } from "./broker-harness.ts";

const talents = { command: "node", args: [MANY_TALENTS] };

describe("registering", () => {
  test("lists all pages in the server's order, odd schemas included", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const { tools, warnings } = await register(broker, "talents", talents);
    expect(tools.map(({ name }) => name)).toEqual(
      "echo secrets fail protocol-error environment pids die wait progress big grow odd-schemas".split(" "),
    );
    expect(warnings).toEqual([]);
  });

  test.each([
    ["filesystem", (workspace: string) => ["@modelcontextprotocol/server-filesystem/dist/index.js", workspace], 10],
    ["memory", () => ["@modelcontextprotocol/server-memory/dist/index.js"], 9],
    ["thinking", () => ["@modelcontextprotocol/server-sequential-thinking/dist/index.js"], 1],
    ["everything", () => ["@modelcontextprotocol/server-everything/dist/index.js"], 10],
  ])("works with the real server %s", async (name, argumentsOf, atLeast) => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const [script = "", ...args] = argumentsOf(harness.workspace);
    const { tools } = await register(broker, name, { command: "node", args: [inPackage(script), ...args] });
    expect(tools.length).toBeGreaterThanOrEqual(atLeast);
  });

  test("resolves placeholders for the upstream and nowhere else", async () => {
    await using harness = new BrokerHarness();
    harness.variables.set("MY_KEY", { value: "s3cret-value-0123", fromEnvFile: true });
    const broker = await harness.open();
    await register(broker, "talents", { ...talents, env: { SECRET: "${MY_KEY}", PLACE: "${WORKSPACE}" } });
    const { structuredContent } = await call(broker, "talents", "environment");
    expect(structuredContent).toMatchObject({ env: { SECRET: "${MY_KEY}", PLACE: harness.workspace } });
    const file = join(harness.state, "servers.json");
    expect(readFileSync(file, "utf8")).toContain("${MY_KEY}");
    expect(readFileSync(file, "utf8")).not.toContain("s3cret-value");
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test("gives the upstream a private directory and nothing of our environment but six variables", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open({ hostEnvironment: { ...process.env, AWS_SECRET: "no", NODE_OPTIONS: "" } });
    await register(broker, "talents", { ...talents, env: { MINE: "yes" } });
    const { structuredContent } = await call(broker, "talents", "environment");
    const { env, cwd } = structuredContent as { env: Record<string, string>; cwd: string };
    expect(cwd).toBe(join(harness.state, "cwd/talents"));
    const ours = new Set("HOME LOGNAME PATH SHELL TERM USER MINE".split(" "));
    // Where sh is bash, it gives these to whatever it becomes.
    if (basename(realpathSync("/bin/sh")) === "bash") for (const name of ["SHLVL", "_"]) ours.add(name);
    expect(Object.keys(env).filter((name) => !ours.has(name) && !name.startsWith("GIT_CONFIG_"))).toEqual([]);
  });

  test("warns where the upstream can read the workspace", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const args = [inPackage("@modelcontextprotocol/server-filesystem/dist/index.js"), "${WORKSPACE}"];
    const { warnings } = await register(broker, "files", { command: "node", args });
    expect(warnings.join()).toContain(".env");
  });

  test("leaves an earlier registration as it was when it fails", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    await expect(register(broker, "talents", { command: "no-such-command" })).rejects.toThrow("Command not found");
    await expect(call(broker, "talents", "echo", { a: 1 })).resolves.toMatchObject({ structuredContent: { a: 1 } });
  });

  test("changes nothing when it is not committed", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    {
      await using registration = await broker.register("talents", talents, { signal: new AbortController().signal });
      expect(registration.tools).not.toEqual([]);
    }
    expect(await broker.list()).toEqual(new Map());
    await expect(call(broker, "talents", "echo")).rejects.toMatchObject({ code: "unknown-server" });
  });

  test("can be cancelled", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const abort = new AbortController();
    const registering = broker.register("slow", { command: "sleep", args: ["100"] }, { signal: abort.signal });
    abort.abort();
    await expect(registering).rejects.toMatchObject({ code: "tool-cancelled" });
  });
});

describe("failing to register says why", () => {
  const failures: [string, unknown, string, string][] = [
    ["missing variable", { command: "node", env: { A: "${NOT_SET}" } }, "missing-variable", "${NOT_SET}"],
    ["unknown command", { command: "no-such-command" }, "upstream-start-failed", "Command not found: no-such-command"],
    [
      "exit code and last lines",
      { command: "node", args: ["-e", "console.error('no licence'); process.exit(7)"] },
      "upstream-start-failed",
      "exit code 7\nLast lines of its error output:\nno licence",
    ],
    [
      "a server that says nothing",
      { command: "sleep", args: ["100"], timeout: 0.3 },
      "upstream-start-failed",
      "300 ms",
    ],
    ["no such directory", { command: "node", cwd: "/no/such" }, "invalid-server-params", "/no/such"],
    ["a relative directory", { command: "node", cwd: "." }, "invalid-server-params", "absolute path"],
    ["no HTTP URL", { url: "file:///etc/passwd" }, "invalid-server-params", "file:///etc/passwd"],
    ["an unknown host", { url: "http://no-such-host.invalid/mcp" }, "upstream-start-failed", "host not found"],
  ];
  test.each(failures)("%s", async (_, params, code, message) => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const error: unknown = await register(broker, "x", params).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toContain(message);
    expect(await broker.list()).toEqual(new Map());
  });

  test("a URL that refuses", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const url = `http://127.0.0.1:${await freePort()}/mcp`;
    await expect(register(broker, "x", { url })).rejects.toThrow("connection refused");
  });

  test.each([401, 404, 500])("the HTTP status %i, secrets in the body taken out", async (status) => {
    await using harness = new BrokerHarness();
    harness.variables.set("TOKEN", { value: "tok-0123456789", fromEnvFile: false });
    const server = createServer((request, response) => {
      response.writeHead(status).end(`go away, ${request.headers.authorization ?? ""}`);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const broker = await harness.open();
    const params = { url: `http://127.0.0.1:${port}/mcp`, headers: { Authorization: "Bearer ${TOKEN}" } };
    const error = (await register(broker, "x", params).catch((thrown: unknown) => thrown)) as Error;
    expect(error.message).toContain(`HTTP ${status}`);
    expect(error.message).not.toContain("tok-0123456789");
    server.close();
  });

  test("a program of the workspace", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    const script = join(harness.workspace, "server.mjs");
    await writeFile(script, "");
    const refused = { code: "workspace-program" };
    await expect(register(broker, "x", { command: "node", args: [script] })).rejects.toMatchObject(refused);
    await expect(register(broker, "x", { command: "node", cwd: "${WORKSPACE}" })).rejects.toMatchObject(refused);
  });
});

describe("the registry", () => {
  test("lets a later session call without registering again", async () => {
    await using harness = new BrokerHarness();
    await register(await harness.open(), "talents", talents);
    const later = await harness.open();
    await expect(call(later, "talents", "echo", { b: 2 })).resolves.toMatchObject({ structuredContent: { b: 2 } });
  });

  test("shows a running session what another one registered, and registered anew", async () => {
    await using harness = new BrokerHarness();
    const [one, other] = [await harness.open(), await harness.open()];
    await expect(call(other, "x", "echo")).rejects.toMatchObject({ code: "unknown-server" });
    await register(one, "x", talents);
    await call(other, "x", "echo");
    await register(one, "x", { command: "node", args: [EVERYTHING] });
    const result = await call(other, "x", "get-sum", { a: 2, b: 3 });
    expect(JSON.stringify(result.content)).toContain("5");
  });

  test("keeps what several sessions register at once", async () => {
    await using harness = new BrokerHarness();
    const brokers = await Promise.all([harness.open(), harness.open(), harness.open()]);
    await Promise.all(brokers.map((broker, index) => register(broker, `server_${index}`, talents)));
    expect([...(await brokers[0].list()).keys()].sort()).toEqual(["server_0", "server_1", "server_2"]);
  });

  test("forgets what is removed", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    expect(await broker.remove("talents")).toBe(true);
    expect(await broker.remove("talents")).toBe(false);
    await expect(call(broker, "talents", "echo")).rejects.toMatchObject({ code: "unknown-server" });
  });

  test("that is damaged counts as empty and works again after the next registration", async () => {
    await using harness = new BrokerHarness();
    const broker = await harness.open();
    await register(broker, "talents", talents);
    await writeFile(join(harness.state, "servers.json"), "{half");
    expect(await broker.list()).toEqual(new Map());
    await register(broker, "talents", talents);
    expect([...(await broker.list()).keys()]).toEqual(["talents"]);
  });
});
