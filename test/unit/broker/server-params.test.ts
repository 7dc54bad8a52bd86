import { describe, expect, test } from "vitest";
import { checkServerName, parseServerParams } from "../../../src/broker/server-params.ts";

const parse = (input: unknown) => parseServerParams(input, { unknownKeys: "error" });

describe("server parameters", () => {
  test("of a stdio server get their defaults", () => {
    expect(parse({ command: "npx" }).params).toEqual({ type: "stdio", command: "npx", args: [], env: {}, timeout: 30 });
  });

  test.each([undefined, "http", "streamable_http", "sse"])("of an HTTP server may have the type %s", (type) => {
    const input = { url: "http://x", ...(type === undefined ? {} : { type }) };
    expect(parse(input).params).toEqual({ ...input, headers: {}, timeout: 30 });
  });

  test.each([
    [{ command: "x", shell: true }, "shell"],
    [{ url: "http://x", env: {} }, "env"],
    [{ command: "x", url: "http://x" }, "both"],
    [{}, "neither"],
    [[], "not an object"],
    ["npx", "not an object"],
    [null, "not an object"],
    [{ command: "" }, "command"],
    [{ command: "x", args: "a b" }, "args"],
    [{ command: "x", args: [1] }, "args"],
    [{ command: "x", env: { A: 1 } }, "env"],
    [{ command: "x", timeout: 0 }, "timeout"],
    [{ command: "x", timeout: "soon" }, "timeout"],
    [{ command: "x", type: "http" }, "type"],
    [{ url: "http://x", type: "websocket" }, "type"],
  ])("%j are refused, naming %s", (input, named) => {
    expect(() => parse(input)).toThrow(named);
    expect(() => parse(input)).toThrow(expect.objectContaining({ code: "invalid-server-params" }));
  });

  test("may have a timeout that a client sent as text", () => {
    expect(parse({ command: "x", timeout: "2.5" }).params).toMatchObject({ timeout: 2.5 });
  });

  test("with unknown keys are a warning in another client's file", () => {
    const { params, warnings } = parseServerParams(
      { command: "x", disabled: false, autoApprove: [] },
      { unknownKeys: "warn" },
    );
    expect(params).toMatchObject({ command: "x" });
    expect(warnings).toEqual(["Ignored unknown keys of the server parameters: disabled, autoApprove"]);
  });
});

describe("server names", () => {
  test.each(["brave_search", "a", "_x", "B2", "match", "x".repeat(64)])("%s is one", (name) => {
    expect(() => checkServerName(name)).not.toThrow();
  });

  test.each([
    "",
    "../x",
    "/etc",
    "a-b",
    "a.b",
    "1a",
    "class",
    "None",
    "__init__",
    "__pycache__",
    "x".repeat(65),
    "a\n",
    "é",
    "a b",
  ])("%j is none", (name) => {
    expect(() => checkServerName(name)).toThrow(expect.objectContaining({ code: "invalid-server-name" }));
  });
});
