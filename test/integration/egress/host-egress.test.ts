import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { Agent, request } from "node:http";
import { connect, createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ReleaseStack } from "../../../src/common/lifecycle.ts";
import { silentLogger } from "../../../src/common/logger.ts";
import { HostEgress } from "../../../src/egress/host-egress.ts";
import { readText } from "../../../src/egress/index-config.ts";

interface ProjectPage {
  readonly files: readonly {
    readonly filename: string;
    readonly url: string;
    readonly hashes: { readonly sha256: string };
  }[];
}

let stateDir: string;
let releases: ReleaseStack;
beforeEach(async () => {
  releases = new ReleaseStack();
  stateDir = await mkdtemp(join(tmpdir(), "ipybox-egress-"));
  releases.defer(() => rm(stateDir, { recursive: true }));
});
afterEach(() => releases[Symbol.asyncDispose]());

/** A client of an installer's egress socket, for the indexes that this machine is configured with. */
async function open(): Promise<(path: string) => Promise<{ status: number; body: Buffer }>> {
  const host = releases.use(
    new HostEgress({
      indexUrl: undefined,
      extraIndexUrls: [],
      allowDomain: [],
      allowPrivate: [],
      env: process.env,
      home: homedir(),
      readFile: readText,
      stateDir,
      isDiskLow: () => Promise.resolve(false),
      logger: silentLogger,
    }),
  );
  const egress = releases.use(host.openInstaller(undefined, { marksSourceOnly: false }));
  const path = join(stateDir, "egress.sock");
  const server = createServer((stream) => egress.accept(stream));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  releases.defer(() => server.close());
  const agent = new Agent();
  agent.createConnection = () => connect(path);
  return (address) =>
    new Promise((resolve, reject) => {
      const outgoing = request({ agent, path: address, host: "index" }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.once("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
        response.once("error", reject);
      });
      outgoing.once("error", reject).end();
    });
}

it("serves pages and files of the configured index, and keeps what has the right hash", async () => {
  const get = await open();
  const page = JSON.parse((await get("/index/0/simple/six/")).body.toString()) as ProjectPage; // rendered by our own code
  const wheel = page.files.find(({ filename }) => filename === "six-1.17.0-py2.py3-none-any.whl");
  for (let round = 0; round < 2; round++) {
    const { status, body } = await get(wheel?.url ?? "");
    expect(status).toBe(200);
    expect(createHash("sha256").update(body).digest("hex")).toBe(wheel?.hashes.sha256);
  }
  expect(await readdir(join(stateDir, "wheels"))).toHaveLength(1);
});

it("passes on that a project does not exist", async () => {
  const get = await open();
  expect((await get("/index/0/simple/ipybox-no-such-project-0/")).status).toBe(404);
});
