import { defineConfig } from "vitest/config";

const project = (name: string, timeoutMs: number) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], testTimeout: timeoutMs, hookTimeout: timeoutMs },
});

export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["test/*.test.ts", "test/unit/**/*.test.ts"] } },
      project("contract", 60_000),
      project("integration", 120_000),
      project("attempts", 120_000),
      {
        test: {
          ...project("e2e", 180_000).test,
          globalSetup: "test/helpers/packed-package.ts",
          fileParallelism: false,
        },
      },
    ],
  },
});
