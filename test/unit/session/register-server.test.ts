import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";

import { expect, onTestFinished, test } from "vitest";

import { silentLogger } from "../../../src/common/logger.ts";
import { ServerRegistrar } from "../../../src/session/register-server.ts";

/** Whose sandboxes may share no file locks: those of gVisor do not. */
test("two servers of a workspace generate the API of one name in turn, and register what they generated", async () => {
  const stateDir = await mkdtemp(join(tmpdir(), "ipybox-registrar-"));
  onTestFinished(() => rm(stateDir, { recursive: true }));
  const seen: string[] = [];
  const registrar = (server: string) =>
    new ServerRegistrar({
      stateDir,
      broker: {
        register: () => Promise.reject(new Error("not under test")),
        noteTools: () => {
          seen.push(`${server} noted`);
          return Promise.resolve();
        },
      },
      sandbox: () =>
        Promise.resolve({
          pushFiles: () => Promise.resolve(),
          pullFiles: () => Promise.resolve([]),
          gateway: {
            post: async () => {
              seen.push(`${server} generates`);
              await setImmediate();
              return { status: 200, body: { modules: [{ module: "echo", fallback: null }] } };
            },
          },
        }),
      logger: silentLogger,
    });
  const tools = [{ name: "echo", inputSchema: {} }];
  const { signal } = new AbortController();
  await Promise.all(["one", "other"].map((server) => registrar(server).toolsChanged("same", tools, signal)));
  const [first, second] = seen[0] === "one generates" ? ["one", "other"] : ["other", "one"];
  expect(seen).toEqual([`${first} generates`, `${first} noted`, `${second} generates`, `${second} noted`]);
});
