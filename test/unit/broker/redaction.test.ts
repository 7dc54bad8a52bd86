import { tmpdir } from "node:os";
import { describe, expect, test } from "vitest";
import { createRedactor } from "../../../src/broker/redaction.ts";

const SECRET = 'sk-live/"ä b+c&d';

function redactorOf(variables: Record<string, string>, options: { envFile?: boolean; exempt?: string[] } = {}) {
  const entries = Object.entries(variables);
  return createRedactor({
    variables: new Map(entries.map(([name, value]) => [name, { value, fromEnvFile: options.envFile ?? false }])),
    used: new Set(options.envFile === true ? [] : entries.map(([name]) => name)),
    exempt: options.exempt ?? [],
  });
}

describe("what is a secret", () => {
  test.each([
    ["API_KEY", "12345678", true],
    ["API_KEY", "1234567", false],
    ["github_token", "abcdefgh", true],
    ["DB_PASSWORD", "correct horse", true],
    ["CITY", "Ouagadougou", false],
    ["CITY", "Llanfairpwllgwyngyllgogerychwyrndrobwll", true],
    ["KEY_FILE", tmpdir(), false],
    ["KEY_FILE", "/nowhere/at/all", true],
    ["API_URL_KEY", "https://example.org/some/long/path", false],
    ["DATABASE_URL", "postgres://user:hunter2hunter2@db/main", true],
    ["HOOK_URL", "https://example.org/hook?token=abcdefgh", true],
  ])("%s=%s: %s", (name, value, isSecret) => {
    expect(redactorOf({ [name]: value }).text(`<${value}>`)).toBe(isSecret ? `<\${${name}}>` : `<${value}>`);
  });

  test("variables that no placeholder used are none, unless they are of the env file", () => {
    const variables = new Map([
      ["A_KEY", { value: "from-process", fromEnvFile: false }],
      ["B_KEY", { value: "from-env-file", fromEnvFile: true }],
    ]);
    const redactor = createRedactor({ variables, used: new Set(), exempt: [] });
    expect(redactor.text("from-process from-env-file")).toBe("from-process ${B_KEY}");
  });

  test("--no-redact exempts a name", () => {
    expect(redactorOf({ API_KEY: "12345678" }, { exempt: ["API_KEY"] }).text("12345678")).toBe("12345678");
  });

  test("the password of a URL is one by itself, decoded too", () => {
    const redactor = redactorOf({ DATABASE_URL: "postgres://user:hunter2%21hunter2@db/main" });
    expect(redactor.text("auth failed with hunter2!hunter2")).toBe("auth failed with ${DATABASE_URL}");
  });
});

describe("forms of a secret", () => {
  const redactor = redactorOf({ API_KEY: SECRET });
  test.each([
    ["plain", SECRET],
    ["URL-encoded", encodeURIComponent(SECRET)],
    ["URL-encoded in lower case", encodeURIComponent(SECRET).replaceAll(/%../g, (code) => code.toLowerCase())],
    ["form-encoded", new URLSearchParams({ a: SECRET }).toString().slice(2)],
    ["JSON-escaped", JSON.stringify(SECRET).slice(1, -1)],
    ["JSON-escaped for HTML", JSON.stringify(SECRET).slice(1, -1).replace("&", "\\u0026")],
    ["JSON-escaped as ASCII", JSON.stringify(SECRET).slice(1, -1).replace("ä", "\\u00e4")],
    ["Base64", Buffer.from(SECRET).toString("base64")],
    ["Base64 for URLs", Buffer.from(SECRET).toString("base64url")],
  ])("%s is replaced", (_, form) => {
    expect(redactor.text(`before ${form} after`)).toBe("before ${API_KEY} after");
  });

  test.each([0, 1, 2, 3, 4, 5])("Base64 together with %i bytes before it is replaced", (bytes) => {
    const encoded = Buffer.from(`${"u".repeat(bytes)}${SECRET}:tail`).toString("base64");
    const redacted = redactor.text(encoded);
    expect(redacted).toContain("${API_KEY}");
    expect(Buffer.from(redacted.replace("${API_KEY}", ""), "base64").toString()).not.toContain("live");
  });

  test.each([
    ["controls", (text: string) => text.replaceAll(/(?=.)/gs, "\u0000")],
    ["colours", (text: string) => text.replace("live", "l\u001b[31mi\u001b[0mve")],
    ["characters that nobody sees", (text: string) => text.replaceAll(/(?=.)/gs, "\u200b")],
    ["a byte order mark", (text: string) => `\ufeff${text.replace("live", "li\ufeffve")}`],
  ])("interspersed with %s is replaced", (_, disguise) => {
    expect(redactor.text(`before ${disguise(SECRET)} after`)).toBe("before ${API_KEY} after");
  });

  test("a text without a secret keeps what nobody sees", () => {
    const text = "\u001b[31mred\u001b[0m\u200b\r\n";
    expect(redactor.text(text)).toBe(text);
  });

  test("each line of a secret of several lines is replaced by itself", () => {
    const lines = [
      "-----BEGIN KEY-----",
      "MIIEvQIBADANBgkqhkiG9w0BAQEF",
      "AASCBKcwggSjAgEAAoIBAQC7VJTUt",
      "-----END KEY-----",
    ];
    const pem = redactorOf({ SIGNING_KEY: lines.join("\n") });
    expect(pem.text(lines.join("\r\n  "))).toBe(
      "-----BEGIN KEY-----\r\n  ${SIGNING_KEY}\r\n  ${SIGNING_KEY}\r\n  -----END KEY-----",
    );
    expect(pem.text(`key: ${lines.join("\n")}`)).toBe("key: ${SIGNING_KEY}");
  });

  test("a secret that begins with another is replaced by its own name", () => {
    const both = redactorOf({ A_KEY: "12345678", B_KEY: "1234567890" });
    expect(both.text("1234567890 12345678")).toBe("${B_KEY} ${A_KEY}");
  });

  test("characters that mean something in patterns are literal", () => {
    const special = redactorOf({ A_KEY: "a.c*(d)[e]{2}$^|\\-/" });
    expect(special.text("a.c*(d)[e]{2}$^|\\-/ abc")).toBe("${A_KEY} abc");
  });
});

describe("JSON", () => {
  test("is redacted at any depth, keys included, and left as it is otherwise", () => {
    const redactor = redactorOf({ API_KEY: "12345678" });
    const value = {
      content: [{ type: "text", text: "12345678" }],
      n: 12345678,
      "12345678": [null, true, "x12345678y"],
    };
    expect(redactor.json(value)).toEqual({
      content: [{ type: "text", text: "${API_KEY}" }],
      n: 12345678,
      "${API_KEY}": [null, true, "x${API_KEY}y"],
    });
  });

  test("is the very same value where there is no secret", () => {
    const value = { a: ["b"] };
    expect(redactorOf({ CITY: "Rome" }).json(value)).toBe(value);
  });

  test("that is nested without end is an error, not a crash", () => {
    let value: unknown = "12345678";
    for (let depth = 0; depth < 100_000; depth += 1) value = [value];
    expect(() => redactorOf({ API_KEY: "12345678" }).json(value)).toThrow("levels deep");
  });
});
