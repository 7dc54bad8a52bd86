import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { proxyArguments, readCaBundle } from "../../../src/sandbox/build-host.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "test-ca-"));
  await writeFile(join(directory, "corporate.pem"), "CORPORATE");
});
afterAll(() => rm(directory, { recursive: true }));

describe("the CA bundle of a build", () => {
  it("is the system's, and what the usual variables add, once", async () => {
    const path = join(directory, "corporate.pem");
    const bundle = await readCaBundle({ NODE_EXTRA_CA_CERTS: path, SSL_CERT_FILE: path, REQUESTS_CA_BUNDLE: "" });
    expect(bundle.pem).toContain("-----BEGIN CERTIFICATE-----");
    expect(bundle.pem.split("CORPORATE")).toHaveLength(2);
    expect(bundle.sources).toHaveLength(2);
    expect(bundle.unreadable).toEqual([]);
  });

  it("names what can't be read", async () => {
    const path = join(directory, "missing.pem");
    expect((await readCaBundle({ SSL_CERT_FILE: path })).unreadable).toEqual([path]);
  });
});

describe("the proxies of a build", () => {
  it("are the host's, under the names it has them", () => {
    expect(proxyArguments({ HTTPS_PROXY: "http://p:1", no_proxy: "localhost", HTTP_PROXY: "", PATH: "/bin" })).toEqual({
      HTTPS_PROXY: "http://p:1",
      no_proxy: "localhost",
    });
  });
});
