import { inject, test as base } from "vitest";

import { type ConnectOptions, TestClient, TestDirectory } from "./client.ts";

export type SessionOptions = Omit<ConnectOptions, "bin" | "directory">;

/**
 * Tests of the built program. All of a file share `directory`, whose state and registrations every server of theirs uses, and
 * `client`, one session, started with `options`: `test.override("options", …)` at the top of a file sets them.
 * `connect` starts another server, which its caller ends.
 */
export const test = base
  .extend("bin", { scope: "file" }, () => inject("ipyboxBin"))
  // eslint-disable-next-line no-empty-pattern -- vitest reads what a fixture needs from this pattern
  .extend("directory", { scope: "file" }, ({}, { onCleanup }) => {
    const directory = new TestDirectory();
    onCleanup(() => directory[Symbol.dispose]());
    return directory;
  })
  .extend("connect", { scope: "file" }, ({ bin, directory }) => (options: SessionOptions = {}) => {
    return TestClient.connect({ bin, directory, ...options });
  })
  .extend("options", { scope: "file" }, (): SessionOptions => ({}))
  .extend("client", { scope: "file" }, async ({ connect, options }, { onCleanup }) => {
    const client = await connect(options);
    onCleanup(() => client[Symbol.asyncDispose]());
    return client;
  });
