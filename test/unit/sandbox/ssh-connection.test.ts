import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { EngineHttp } from "../../../src/sandbox/docker/engine-http.ts";
import { dialOverSsh } from "../../../src/sandbox/docker/ssh-connection.ts";

const ENDPOINT = { type: "ssh", address: "ssh://ann@build", args: ["-l", "ann", "--", "build", "docker"] } as const;
let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "test-ssh-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** An environment whose `ssh` is this program. */
async function withSsh(program: string): Promise<{ PATH: string }> {
  const path = join(directory, "ssh");
  await writeFile(path, program);
  await chmod(path, 0o755);
  return { PATH: `${directory}:${process.env["PATH"] ?? ""}` };
}

it("carries requests, bodies and answers of an engine", async () => {
  const path = join(directory, "engine.sock");
  const server = createServer((request, response) => request.pipe(response)).listen(path);
  await once(server, "listening");
  try {
    const env = await withSsh(
      `#!/usr/bin/env node
const engine = require("node:net").connect({ path: ${JSON.stringify(path)}, allowHalfOpen: true });
process.stdin.pipe(engine).pipe(process.stdout);
require("node:fs").writeFileSync(${JSON.stringify(join(directory, "arguments"))}, process.argv.slice(2).join(" "));`,
    );
    const body = { text: "x".repeat(300_000) };
    const answer = await new EngineHttp(ENDPOINT, env).json({ method: "POST", path: "/echo", body });
    expect(answer).toEqual(body);
    expect(await readFile(join(directory, "arguments"), "utf8")).toBe("-l ann -- build docker");
  } finally {
    server.close();
  }
});

it("fails with ssh's own last words", async () => {
  const env = await withSsh(
    "#!/bin/sh\necho 'Welcome' >&2\necho 'ann@build: Permission denied (publickey).' >&2\nexit 255",
  );
  const request = new EngineHttp(ENDPOINT, env).json({ method: "GET", path: "/info" });
  await expect(request).rejects.toMatchObject({
    code: "engine-unreachable",
    message: "The container engine does not answer at ssh://ann@build: ann@build: Permission denied (publickey).",
  });
});

it("fails with the system's error where there is no ssh", async () => {
  const request = new EngineHttp(ENDPOINT, { PATH: directory }).json({ method: "GET", path: "/info" });
  await expect(request).rejects.toMatchObject({ code: "ENOENT" });
});

it("ends its process when it is destroyed", async () => {
  const env = await withSsh("#!/bin/sh\necho $$\nexec sleep 1000");
  const connection = dialOverSsh(ENDPOINT, env);
  const [chunk] = (await once(connection, "data")) as [Buffer];
  connection.destroy();
  await expect.poll(() => isAlive(Number(chunk.toString()))).toBe(false);
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
