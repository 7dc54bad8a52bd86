import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { silentLogger } from "../../../src/common/logger.ts";
import { createDockerClient } from "../../../src/sandbox/docker/client.ts";
import { emptyFileOnEngine } from "../../../src/sandbox/docker/empty-file.ts";
import { EngineNote } from "../../../src/sandbox/docker/engine-note.ts";

let directory: string;
let requests: string[];
let createdAt: string | undefined;
/** An engine that has the volume, and no file on it. */
const engine = createServer((request, response) => {
  const { method = "", url = "" } = request;
  requests.push(`${method} ${url.split("?")[0] ?? ""}`);
  request.resume();
  if (method === "HEAD") response.writeHead(404).end();
  else response.end(JSON.stringify({ Mountpoint: "/volumes/ipybox-empty", CreatedAt: createdAt, Id: "c" }));
});
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "test-empty-"));
  requests = [];
  createdAt = "2026-01-01T00:00:00Z";
  await once(engine.listen(join(directory, "engine.sock")), "listening");
});
afterEach(async () => {
  await once(engine.close(), "close");
  await rm(directory, { recursive: true });
});

/** As a server that has just been started asks for it. */
async function ask(): Promise<string[]> {
  requests = [];
  const client = createDockerClient({ DOCKER_HOST: `unix://${directory}/engine.sock` });
  const note = new EngineNote({ stateDir: directory, kind: "empty-files", key: client.address, logger: silentLogger });
  expect(await emptyFileOnEngine(client, { image: "i", owner: "o", note })).toBe("/volumes/ipybox-empty/empty");
  return requests;
}

const LOOK = ["POST /volumes/create"];
const MAKE = [
  ...LOOK,
  "POST /containers/create",
  "HEAD /containers/c/archive",
  "PUT /containers/c/archive",
  "DELETE /containers/c",
];

describe("the empty file that an engine keeps", () => {
  it("is made once, and takes later servers no container", async () => {
    expect(await ask()).toEqual(MAKE);
    expect(await ask()).toEqual(LOOK);
  });

  it("is made anew when its volume was removed", async () => {
    await ask();
    createdAt = "2026-01-02T00:00:00Z";
    expect(await ask()).toEqual(MAKE);
    expect(await ask()).toEqual(LOOK);
  });

  it("is looked for each time where the engine does not say how old the volume is", async () => {
    createdAt = undefined;
    await ask();
    expect(await ask()).toEqual(MAKE);
  });
});
