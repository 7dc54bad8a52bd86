import { createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";

import { afterAll, describe, expect } from "vitest";

import { makeCertificate } from "../helpers/certificate.ts";
import { type TestClient, textOf } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

/** Servers of this host, on its loopback: what no sandbox may reach unless its user says so. */
let plain: Server;
let secure: Server;
const seen: string[] = [];
const answer: RequestListener = (request, response) => {
  seen.push(request.url ?? "");
  if (request.url === "/away") response.writeHead(302, { location: "http://169.254.169.254/latest/meta-data" }).end();
  else response.end(`hello ${request.url ?? ""}`);
};
const portOf = (server: Server): number => (server.address() as AddressInfo).port; // listening on a port, so not a path
let trusted: string;
test.beforeAll(async ({ directory }) => {
  const { path, key, cert } = makeCertificate(directory.path);
  trusted = path;
  plain = createServer(answer);
  secure = createTlsServer({ key, cert }, answer);
  for (const server of [plain, secure]) await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(() => {
  plain.close();
  secure.close();
});

/** `fetch(url)`: what came, or the refusal. */
const FETCH = `
import os, urllib.request, urllib.error
def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        return f'{error.code} {error.read().decode()}'
    except OSError as error:
        return repr(error)
`;

test.override("options", () => {
  const ports = [portOf(plain), portOf(secure)];
  const args = ports.flatMap((port) => ["--allow-private", `localhost:${port}`, "--allow-domain", `127.0.0.1:${port}`]);
  return { args, env: { SSL_CERT_FILE: trusted } };
});

describe("with hosts that are allowed", () => {
  const fetch = (client: TestClient, url: string) => client.text(`print(fetch('${url}'), end='')`);
  test.beforeAll(({ client }) => client.text(FETCH));

  test("HTTP and HTTPS get through, the latter with the host's trust", async ({ client }) => {
    expect(await fetch(client, `http://localhost:${portOf(plain)}/x?y=1`)).toBe("hello /x?y=1");
    expect(await fetch(client, `https://localhost:${portOf(secure)}/z`)).toBe("hello /z");
    expect(await fetch(client, `http://LOCALHOST.:${portOf(plain)}/dot`)).toBe("hello /dot");
  });

  test("every kernel is told the way, in both spellings", async ({ client }) => {
    await client.call("reset");
    const names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
    expect(await client.text(`import os; [os.environ[n].split(':')[0] for n in ${JSON.stringify(names)}]`)).toBe(
      "['http', 'http', 'http', 'http']",
    );
    await client.text(FETCH);
  });

  test.for([
    ["a host that is not on the list", () => "http://example.org/", "403 example.org:80 is not admitted"],
    ["the same host at another port", () => "http://localhost:1/", "403 localhost:1 is not admitted"],
    ["an allowed host at a private address", () => `http://127.0.0.1:${portOf(plain)}/`, "--allow-private 127.0.0.1"],
    ["the metadata service", () => "http://169.254.169.254/latest/", "403 169.254.169.254:80 is not admitted"],
    ["a number for an address", () => `http://2130706433:${portOf(plain)}/`, "403 '2130706433' is no host name"],
    ["a hexadecimal address", () => `http://0x7f.1:${portOf(plain)}/`, "403 '0x7f.1' is no host name"],
    ["an IPv4 address in IPv6", () => `http://[::ffff:127.0.0.1]:${portOf(plain)}/`, "is not admitted"],
    ["a redirect to elsewhere", () => `http://localhost:${portOf(plain)}/away`, "403 169.254.169.254:80 is not"],
  ] as [string, () => string, string][])(
    "%s is refused with the way to admit it",
    async ([, url, expected], { client }) => {
      expect(await fetch(client, url())).toContain(expected);
    },
  );

  test("the names of the loopback that are allowed mean the host's, the others the sandbox's own", async ({
    client,
    connect,
    directory,
  }) => {
    const EXCEPTED = "import os; [os.environ[n] for n in ('NO_PROXY', 'no_proxy')]";
    expect(await client.text(EXCEPTED)).toBe("['', '']");
    const args = ["--allow-domain", "example.org", "--allow-private", `localhost:${portOf(plain)}`];
    await using other = await connect({ workspace: directory.make("own-loopback"), args });
    expect(await other.text(EXCEPTED)).toBe("['127.0.0.1', '127.0.0.1']");
    const OWN_SERVER = `import http.server, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").status`;
    expect(await other.text(OWN_SERVER)).toMatch(/(^|\n)200$/);
  });

  test("a tunnel to elsewhere is refused, and denials are logged", async ({ client }) => {
    expect(await fetch(client, "https://example.org/")).toContain("403");
    expect(client.stderr).toMatch(/egress denied: not on the list.*example\.org/);
  });

  test("there is still no network interface, and no name is resolved inside", async ({ client }) => {
    expect(await client.text("import socket; socket.if_nameindex()")).toBe("[(1, 'lo')]");
    expect(
      await client.text(
        "import socket\ntry:\n    socket.getaddrinfo('example.org', 80)\nexcept OSError as e:\n    print(type(e).__name__)",
      ),
    ).toBe("gaierror");
    expect(
      await client.text(
        `s = socket.socket()\ntry:\n    s.connect(('127.0.0.1', ${portOf(plain)}))\nexcept OSError as e:\n    print(type(e).__name__)`,
      ),
    ).toBe("ConnectionRefusedError");
  });

  test("%pip from an allowed host is let through to the installer, from others it is not", async ({ client }) => {
    const refused = await client.cell("%pip install git+https://git.example.org/x.git");
    expect(textOf(refused)).toContain("Code in a cell can't install from git.example.org");
  });
});

test("without an allowed host there is no socket, no forwarder and no proxy variable", async ({
  connect,
  directory,
}) => {
  await using client = await connect({ workspace: directory.make("closed") });
  expect(await client.text("import os; os.path.exists('/run/ipybox/egress.sock')")).toBe("False");
  expect(await client.text("[n for n in os.environ if 'proxy' in n.lower()]")).toBe("[]");
});

test("%pip installs from a host that --allow-domain names", async ({ connect, directory }) => {
  const args = ["--allow-domain", "git.example.org"];
  await using client = await connect({ workspace: directory.make("pip"), args });
  const result = await client.cell("%pip install git+https://git.example.org/x.git");
  expect(textOf(result)).not.toContain("Code in a cell can't install");
  expect(textOf(result)).toMatch(/git\.example\.org/);
});
