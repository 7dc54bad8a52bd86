import { describe, expect, it } from "vitest";
import { parseRequirement } from "../../../src/packages/requirement.ts";

const parse = (text: string) =>
  parseRequirement(text, {
    workspace: "/home/ann/project",
    admitsPrivate: (host, port) => host === "git.corp.internal" && port === 8443,
  });

describe("a requirement", () => {
  it.each([
    "numpy",
    "numpy>=2",
    "numpy >= 2, < 3",
    "numpy (>=2,<3)",
    "requests[socks]",
    "requests[socks, security]>=2",
    "zope.interface==5.*",
    "a",
    "torch==2.1.0+cpu",
    "tomli; python_version < '3.11'",
    'tomli>=1 ; python_version < "3.11" and (os_name == "posix" or extra == \'x-y\')',
  ])("of the indexes: %s", (text) => {
    expect(parse(text)).toMatchObject({ kind: "index", text });
  });

  it.each([
    ["https://example.org/a-1.0-py3-none-any.whl", "url", "example.org", 443],
    ["a @ https://example.org:8443/a.tar.gz", "url", "example.org", 8443],
    ["git+https://github.com/pypa/packaging", "git", "github.com", 443],
    ["packaging @ git+https://github.com/pypa/packaging@main#subdirectory=x", "git", "github.com", 443],
    ["git+https://git.corp.internal:8443/x", "git", "git.corp.internal", 8443],
    ["packaging[x] @ git+https://GITHUB.com/pypa/packaging ; python_version > '3'", "git", "github.com", 443],
  ])("with a URL: %s", (text, kind, host, port) => {
    expect(parse(text)).toMatchObject({ kind, host, port });
  });

  it.each([
    ["./dist/a-1.0-py3-none-any.whl", "./dist/a-1.0-py3-none-any.whl"],
    ["dist/a-1.0.tar.gz", "./dist/a-1.0.tar.gz"],
    ["/home/ann/project/sub", "./sub"],
    [".", "./"],
  ])("that is a path in the workspace, wherever that is in the sandbox: %s", (text, path) => {
    expect(parse(text)).toEqual({ kind: "local", text: path });
  });

  it.each([
    ["", "it is empty"],
    ["   ", "it is empty"],
    ["-r requirements.txt", "options are not admitted"],
    ["--index-url=https://evil.example", "options are not admitted"],
    ["numpy --index-url https://evil.example", "options are not admitted"],
    ["numpy pandas", "it names several packages"],
    ["numpy, pandas", "it names several packages"],
    ["numpy\npandas", "control characters"],
    ["numpy\u202e", "control characters"],
    ["numpy\0", "control characters"],
    ["numpy=2", "PEP 508"],
    ["$(id)", "PEP 508"],
    ["http://example.org/a.whl", "only https:// and git+https://"],
    ["git+ssh://git@github.com/a/b", "only https:// and git+https://"],
    ["file:///etc/passwd", "only https:// and git+https://"],
    ["a @ file:///etc/passwd", "only https:// and git+https://"],
    ["git+https://user:secret@example.org/a", "credentials"],
    ["git+https://127.0.0.1/a", "no public host"],
    ["git+https://0x7f.1/a", "no public host"],
    ["git+https://[::1]/a", "no public host"],
    ["git+https://localhost/a", "no public host"],
    ["https://printer.local/a.whl", "no public host"],
    ["../other", "outside the workspace"],
    ["/etc", "outside the workspace"],
    ["./a/../../b", "outside the workspace"],
    ["/home/ann/project-2", "outside the workspace"],
    [`a${"b".repeat(2000)}`, "more than 2000 characters"],
    // With two readings for each of them, the server would never have answered again.
    [`a; ${"b".repeat(1900)} !`, "PEP 508"],
    [`a; ${"=".repeat(1900)}!`, "PEP 508"],
  ])("is refused: %j", (text, reason) => {
    expect(() => parse(text)).toThrow(reason);
  });

  it.for([
    ["/workspace/dist/a-1-py3-none-any.whl", "./dist/a-1-py3-none-any.whl"],
    ["/workspace", "./"],
    ["/workspace/a/../b", "./b"],
    ["/home/ann/project/b", "./b"],
  ] as const)("of the workspace, by what it is called in a sandbox: %s", ([text, expected]) => {
    const options = { workspace: "/home/ann/project", innerPath: "/workspace", admitsPrivate: () => false };
    expect(parseRequirement(text, options)).toEqual({ kind: "local", text: expected });
    for (const other of ["/workspaces/a", "/workspace/../etc", "/etc/workspace"])
      expect(() => parseRequirement(other, options)).toThrow("outside the workspace");
    expect(() => parse("/workspace/b")).toThrow("outside the workspace");
  });

  it("never repeats credentials in its refusal", () => {
    expect(() => parse("git+https://user:secret@example.org/a")).toThrow(/^(?!.*secret)/);
  });
});
