import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ReleaseStack } from "../../../src/common/lifecycle.ts";
import { silentLogger } from "../../../src/common/logger.ts";
import type { AdministeredEngine } from "../../../src/sandbox/engine-admin.ts";
import type { LocalEngineOptions } from "../../../src/sandbox/engines.ts";
import { SandboxRecords } from "../../../src/sandbox/local/sandbox-records.ts";
import type { EngineUnderTest } from "../../contract/engine/describe-engine.ts";
import { shareEnvironments } from "../../helpers/environments.ts";
import { runInKernel } from "../../helpers/run-in-kernel.ts";

const IMAGES_DIRECTORY = fileURLToPath(new URL("../../../images", import.meta.url));

/** An engine whose sandboxes are processes of this host, which knows what it made. */
export interface LocalUnderTest extends EngineUnderTest {
  readonly engine: AdministeredEngine;
  readonly stack: ReleaseStack;
  readonly stateDir: string;
  readonly records: SandboxRecords;
}

export async function makeLocalUnderTest(
  create: (options: LocalEngineOptions) => AdministeredEngine,
): Promise<LocalUnderTest> {
  const stack = new ReleaseStack();
  const scratch = await mkdtemp("/tmp/ipybox-t-"); // short: names of sockets are
  stack.defer(() => rm(scratch, { recursive: true, force: true }));
  const stateDir = join(scratch, "state");
  shareEnvironments(stateDir);
  const runtimeDir = join(scratch, "r");
  const engine = create({
    dataDir: join(stateDir, "local"),
    stateDir,
    imagesDir: IMAGES_DIRECTORY,
    env: process.env,
    runtimeDir,
    logger: silentLogger,
  });
  stack.use(engine);
  const records = new SandboxRecords(stateDir);
  return {
    engine,
    stack,
    stateDir,
    records,
    makeWorkspace: async () => {
      const path = await realpath(await mkdtemp(join(scratch, "ws-")));
      return { path, key: `test-${randomBytes(6).toString("hex")}`, masked: [], protected: [] };
    },
    askBridge: async (sandbox, line) => (await runInKernel(sandbox, ASK_BRIDGE(line))).trim(),
    kill: async (sandbox) => {
      const [record] = (await records.list()).filter(({ id }) => id === sandbox.id);
      if (record === undefined) throw new Error(`there is no record of ${sandbox.id}`);
      process.kill(record.init.pid, "SIGKILL");
    },
    leftovers: async () => {
      const roots = await readdir(runtimeDir).catch(() => []); // made with the first sandbox
      const directories = await Promise.all(roots.map((root) => readdir(join(runtimeDir, root))));
      return [...directories.flat(), ...(await records.list()).map(({ id }) => `record ${id}`)];
    },
    [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
  };
}

const ASK_BRIDGE = (line: string) => `
from ipybox_sandbox import bridge
from ipybox_sandbox.addresses import connect
with connect(bridge.ADDRESS) as connection:
    connection.sendall(${JSON.stringify(line)}.encode() + b"\\n")
    print(connection.makefile().readline(), end="")
`;
