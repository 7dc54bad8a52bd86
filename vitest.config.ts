import { defineConfig } from "vitest/config";

const project = (name: string, timeoutMs: number) => ({
  name,
  include: [`test/${name}/**/*.test.ts`],
  testTimeout: timeoutMs,
  hookTimeout: timeoutMs,
});

const PACKED_PACKAGE = "test/helpers/packed-package.ts";
const PYTHON_SERVERS = "test/helpers/python-servers.ts";

export default defineConfig({
  test: {
    projects: [
      { test: { ...project("unit", 30_000), include: ["test/*.test.ts", "test/unit/**/*.test.ts"] } },
      { test: project("contract", 60_000) },
      { test: { ...project("integration", 120_000), globalSetup: PYTHON_SERVERS } },
      {
        test: {
          ...project("attempts", 120_000),
          globalSetup: [PACKED_PACKAGE, PYTHON_SERVERS],
          fileParallelism: false,
        },
      },
      {
        test: { ...project("matrix", 300_000), globalSetup: [PACKED_PACKAGE, PYTHON_SERVERS], fileParallelism: false },
      },
      { test: { ...project("e2e", 180_000), globalSetup: [PACKED_PACKAGE, PYTHON_SERVERS], fileParallelism: false } },
    ],
  },
});
