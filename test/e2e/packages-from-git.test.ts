import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";

import { afterAll, describe, expect } from "vitest";

import { makeCertificate } from "../helpers/certificate.ts";
import { errorCodeOf, type TestDirectory, textOf } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

/** A git host with a private address, a name of this machine only, and a certificate of its own authority. */
let host: Server;
let trusted: string;
const asked: string[] = [];
test.beforeAll(async ({ directory }) => {
  const { path, key, cert } = makeCertificate(directory.path);
  trusted = path;
  const repository = makeRepository(directory);
  host = createServer({ key, cert }, (request, response) => {
    const { pathname } = new URL(request.url ?? "", "https://localhost");
    asked.push(pathname);
    try {
      response.end(readFileSync(join(repository, pathname.replace("/tidy.git/", "/"))));
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => host.listen(0, "127.0.0.1", resolve));
});
afterAll(() => void host.close());

const port = () => (host.address() as AddressInfo).port; // listening on a port, so not a path
const url = () => `git+https://localhost:${port()}/tidy.git`;
const admitting = () => ({ args: ["--allow-private", `localhost:${port()}`], env: { SSL_CERT_FILE: trusted } });

describe("a git URL", () => {
  test("of a host that --allow-private names is installed, at its commit too, by the tool and by %pip", async ({
    connect,
  }) => {
    await using client = await connect(admitting());
    const installed = await client.call("install_package", { package_name: url() });
    expect(textOf(installed)).toContain("Installed tidy 2");
    expect(await client.text("import tidy; tidy.version")).toBe("2");
    expect(await client.text(`%pip install ${url()}@v1`)).toContain("Installed tidy 1");
    await client.call("reset");
    expect(await client.text("import tidy; tidy.version")).toBe("1");
    const offline = await client.cell(`import socket; socket.create_connection(("127.0.0.1", ${port()}), timeout=5)`);
    expect(textOf(offline)).toContain("ConnectionRefusedError");
  });

  test("of a host that nobody named is refused, and the host is not asked", async ({ connect }) => {
    await using client = await connect();
    const before = asked.length;
    const result = await client.call("install_package", { package_name: url() });
    expect(errorCodeOf(result)).toBe("invalid-requirement");
    expect(textOf(result)).toContain("--allow-private");
    expect(asked).toHaveLength(before);
  });

  test("of a repository that is not there is an error that names it", async ({ connect }) => {
    await using client = await connect(admitting());
    const result = await client.call("install_package", { package_name: url().replace("tidy", "untidy") });
    expect(errorCodeOf(result)).toBe("install-failed");
    expect(textOf(result)).toContain("untidy.git");
  });
});

/** A bare repository of a package whose commits are tagged v1 and v2, ready to be served as plain files. */
function makeRepository(directory: TestDirectory): string {
  const [source, bare] = [directory.make("source"), join(directory.path, "tidy.git")];
  const git = (...args: string[]) => execFileSync("git", ["-C", source, ...args], { stdio: "ignore" });
  git("init", "--quiet");
  git("config", "user.name", "Test");
  git("config", "user.email", "test@example.org");
  mkdirSync(join(source, "tidy"));
  for (const version of [1, 2]) {
    writeFileSync(join(source, "tidy/__init__.py"), `version = ${version}\n`);
    writeFileSync(join(source, "pyproject.toml"), `[project]\nname = "tidy"\nversion = "${version}"\n`);
    git("add", ".");
    git("commit", "--quiet", "--message", `Version ${version}`);
    git("tag", `v${version}`);
  }
  execFileSync("git", ["clone", "--quiet", "--bare", source, bare]);
  execFileSync("git", ["-C", bare, "update-server-info"]);
  return bare;
}
