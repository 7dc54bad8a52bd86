import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, inject, test as base } from "vitest";
import { errorCodeOf, TestClient, TestDirectory, textOf } from "../helpers/client.ts";

/** The same attempts in two sessions of one workspace: behind sandbox-runtime, and without any wall. */
const test = base
  // eslint-disable-next-line no-empty-pattern -- vitest reads what a fixture needs from this pattern
  .extend("directory", { scope: "file" }, ({}, { onCleanup }) => {
    const directory = new TestDirectory();
    onCleanup(() => directory[Symbol.dispose]());
    writeFileSync(join(directory.make("workspace"), ".env"), "KEY=of-the-user\n");
    mkdirSync(join(directory.path, "workspace/.git/hooks"), { recursive: true });
    writeFileSync(join(directory.make("beside"), "file"), "theirs");
    return directory;
  })
  .extend("inSrt", { scope: "file" }, async ({ directory }, { onCleanup }) => {
    const client = await TestClient.connect({ bin: inject("ipyboxBin"), directory, args: ["--sandbox"] });
    onCleanup(() => client[Symbol.asyncDispose]());
    return client;
  })
  .extend("inNone", { scope: "file" }, async ({ directory }, { onCleanup }) => {
    const client = await TestClient.connect({ bin: inject("ipyboxBin"), directory, args: ["--sandbox", "none"] });
    onCleanup(() => client[Symbol.asyncDispose]());
    return client;
  });

const tried = (code: string) => `
try:
    print("done", ${code})
except OSError as error:
    print("refused", type(error).__name__)
`;

describe("behind sandbox-runtime", () => {
  for (const [what, code] of [
    ["read .env", `open(".env").read()`],
    ["write beside the workspace", `open("../beside/file", "w").write("ours")`],
    ["plant a hook", `open(".git/hooks/pre-commit", "w").write("ours")`],
    ["move .git away", `__import__("os").rename(".git", ".g") or __import__("os").rename(".g", ".git")`],
    ["open a unix socket", `__import__("socket").socket(__import__("socket").AF_UNIX)`],
    ["read what ipybox keeps", `__import__("os").listdir("../state/ipybox/workspaces")`],
  ] as const) {
    test(`a cell can't ${what}, as it can without`, async ({ inSrt, inNone }) => {
      expect(await inSrt.text(tried(code))).toMatch(/^refused/);
      expect(await inNone.text(tried(code))).toMatch(/^done/);
    });
  }

  test("a cell can't reach services on the host's loopback, as it can without", async ({ inSrt, inNone }) => {
    const server = createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    const port = typeof address === "object" ? address?.port : undefined;
    const dial = tried(`__import__("socket").create_connection(("127.0.0.1", ${port}), 5).recv(5)`);
    expect(await inSrt.text(dial)).toMatch(/^refused/);
    expect(await inNone.text(dial)).toContain("hello");
    server.close();
  });

  test("a cell has no way to the internet", async ({ inSrt }) => {
    expect(await inSrt.text(tried(`__import__("socket").create_connection(("192.0.2.1", 443), 5)`))).toMatch(
      /^refused/,
    );
    expect(await inSrt.text(tried(`__import__("socket").getaddrinfo("example.org", 443)`))).toMatch(/^refused/);
  });

  test("nothing of it stays in the workspace", async ({ inSrt, directory }) => {
    await inSrt.text("1");
    for (const name of [".claude", ".mcp.json", ".bashrc", ".gitconfig"]) {
      expect(existsSync(join(directory.path, "workspace", name))).toBe(false);
    }
  });
});

describe("without what sandbox-runtime needs", () => {
  test.for([
    ["bwrap", "there"],
    ["socat", "there"],
    ["rg", "there"],
    ["bwrap", "not made yet"],
  ] as const)(
    "a cell does not run, and its answer says what to install: %s, the Python environment being %s",
    async ([missing, environment]) => {
      using directory = new TestDirectory();
      const programs = directory.make("programs");
      for (const name of ["node", "sh", "bwrap", "socat", "rg"].filter((other) => other !== missing)) {
        const path = execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
        symlinkSync(path, join(programs, name));
      }
      const state = environment === "there" ? {} : { XDG_STATE_HOME: directory.make("own-state") };
      const env = { PATH: programs, ...state };
      const started = { bin: inject("ipyboxBin"), directory, args: ["--sandbox"], env };
      await using client = await TestClient.connect(started);
      const refused = await client.cell("1");
      expect(errorCodeOf(refused)).toBe("confinement-unavailable");
      expect(textOf(refused)).toMatch(/not (installed|found).*\nHint: .*apt-get install bubblewrap socat ripgrep/);
    },
  );
});
