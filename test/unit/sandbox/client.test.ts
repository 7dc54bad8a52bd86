import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:tls";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createDockerClient } from "../../../src/sandbox/docker/client.ts";
import { makeCertificate } from "../../helpers/certificate.ts";

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "test-client-"));
});
afterEach(() => rm(scratch, { recursive: true }));

async function failure(env: Record<string, string>): Promise<unknown> {
  const client = createDockerClient(env);
  return await client.ask(client.api.info()).catch((error: unknown) => error);
}

describe("an engine that can't be asked", () => {
  it("because nobody listens there: the hint is to start one", async () => {
    const DOCKER_HOST = `unix://${scratch}/docker.sock`;
    expect(await failure({ DOCKER_HOST })).toMatchObject({
      code: "engine-unreachable",
      message: `The container engine does not answer at ${DOCKER_HOST} (ENOENT)`,
      hint: expect.stringContaining("start Docker") as unknown,
    });
  });

  it("because its certificate is of nobody we know: the hint is where ours are", async () => {
    await writeFile(join(scratch, "ca.pem"), makeCertificate(scratch).cert);
    const engine = createServer(makeCertificate(scratch)).listen(0, "localhost");
    await once(engine, "listening");
    const { port } = engine.address() as AddressInfo; // it listens on a port
    const env = { DOCKER_HOST: `tcp://localhost:${port}`, DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: scratch };
    expect(await failure(env)).toMatchObject({
      code: "engine-unreachable",
      hint: expect.stringContaining("DOCKER_CERT_PATH") as unknown,
    });
    await once(engine.close(), "close");
  });
});
