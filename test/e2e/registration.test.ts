import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { expect } from "vitest";

import { baseEnvironment, errorCodeOf, textOf, upstream } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

const MANY_TALENTS = join(import.meta.dirname, "../integration/broker/servers/many-talents.mjs");
const talents = { command: process.execPath, args: [MANY_TALENTS] };

/** A server of few words: what it does with a line of its input. */
const scripted = (script: string) => ({
  command: process.execPath,
  args: [
    "-e",
    `const answer = (id, result) => console.log(JSON.stringify({ jsonrpc: "2.0", id, result }));
     require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
       const { id, method, params } = JSON.parse(line);
       if (method === "initialize")
         answer(id, { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "s", version: "1" } });
       ${script}
     });`,
  ],
});

test("parameters as a JSON string are taken for what they were meant to be", async ({ client }) => {
  const result = await client.register("as_text", JSON.stringify(upstream("everything")));
  expect(result.isError).toBeFalsy();
  expect(result.content).toContainEqual({ type: "text", text: "get_sum" });
});

test("tools that appear later are generated, and the kernel can call them", async ({ bin, client, directory }) => {
  const env = baseEnvironment(directory);
  await client.register("talents", talents);
  await client.text("from mcptools.talents import grow\ngrow.run(grow.Params())");
  await expect
    .poll(() => existsSync(join(client.workspace, "mcptools/talents/grown_12.py")), { timeout: 60_000 })
    .toBe(true);
  const index = readFileSync(join(client.workspace, "mcptools/talents/__init__.py"), "utf8");
  expect(index).toContain("grown_12");
  expect(await client.text("from mcptools.talents.grown_12 import Params\nParams()")).toBe("Params()");
  const list = () => execFileSync(bin, ["servers", "--workspace", client.workspace], { env, encoding: "utf8" });
  await expect.poll(list, { timeout: 60_000 }).toContain("grown_12");
});

test("a server without tools is registered, and the answer says that it has none", async ({ client }) => {
  const result = await client.register("empty", scripted(`if (method === "tools/list") answer(id, { tools: [] });`));
  expect(result.isError).toBeFalsy();
  expect(textOf(result)).toBe("empty is registered, but it lists no tools.");
  expect(await client.text("import mcptools.empty\nmcptools.empty._TOOLS")).toBe("[]");
});

test("a server that does not answer within its timeout is an error, and nothing is left of it", async ({ client }) => {
  const silent = { command: process.execPath, args: ["-e", "setInterval(() => undefined, 1000)"], timeout: 1 };
  const result = await client.register("silent", silent);
  expect(errorCodeOf(result)).toBe("upstream-start-failed");
  expect(textOf(result)).toContain("did not answer within 1 s");
  expect(existsSync(join(client.workspace, "mcptools/silent"))).toBe(false);
});

test("a server that can read the workspace is admitted with a warning, and one that lies in it is refused", async ({
  client,
}) => {
  const warned = await client.register("files", upstream("filesystem", client.workspace));
  expect(warned.isError).toBeFalsy();
  expect(warned.content.at(-1)).toEqual({
    type: "text",
    text: "This server can read files of the workspace that are hidden from cells, such as .env",
  });
  await client.text("open('server.mjs', 'w').write('')");
  const planted = await client.register("planted", {
    command: process.execPath,
    args: [`${client.workspace}/server.mjs`],
  });
  expect(errorCodeOf(planted)).toBe("workspace-program");
});

test("placeholders may use what --expose names, and answers show what --no-redact names", async ({ connect }) => {
  const env = { PUBLIC_MODE: "a mode of twenty characters", PUBLIC_KEY: "key-0123456789", PRIVATE_KEY: "private-0123" };
  await using exposing = await connect({ args: ["--expose", "PUBLIC_*", "--no-redact", "PUBLIC_MODE"], env });
  const registered = (...names: string[]) =>
    exposing.register("exposed", {
      ...upstream("everything"),
      env: { GIVEN: names.map((name) => `\${${name}}`).join() },
    });
  const refused = await registered("PRIVATE_KEY");
  expect(errorCodeOf(refused)).toBe("missing-variable");
  expect(textOf(refused)).toContain("--expose");
  expect((await registered("PUBLIC_MODE", "PUBLIC_KEY")).isError).toBeFalsy();
  const code = `from mcptools.exposed import echo\nprint(echo.run(echo.Params(message="${env.PUBLIC_MODE} ${env.PUBLIC_KEY}")))`;
  expect(await exposing.text(code)).toBe("Echo: a mode of twenty characters ${PUBLIC_KEY}");
});

test("what one server of a workspace registers, another one calls", async ({ client, connect }) => {
  await using other = await connect({ workspace: client.workspace });
  await other.text("1");
  await client.register("shared", upstream("everything"));
  const code = "from mcptools.shared import echo\nprint(echo.run(echo.Params(message='from there')))";
  expect(await other.text(code)).toBe("Echo: from there");
  await Promise.all([client.register("first", upstream("everything")), other.register("second", upstream("memory"))]);
  expect(await client.text("from mcptools.second import read_graph as g\nprint(g.run(g.Params()).entities)")).toBe(
    "[]",
  );
  expect(await other.text(code.replace("shared", "first"))).toBe("Echo: from there");
});

test("a file of the user's in a server's package survives another registration", async ({ client }) => {
  await client.register("again", upstream("everything"));
  await client.text("open('mcptools/again/mine.py', 'w').write('x = 1')");
  await client.register("again", upstream("memory"));
  expect(await client.text("from mcptools.again.mine import x\nx")).toBe("1");
  expect(existsSync(join(client.workspace, "mcptools/again/echo.py"))).toBe(false);
});
