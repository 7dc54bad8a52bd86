import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

import { expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

test("the plugin starts the version that it is released with", () => {
  const { version } = JSON.parse(read("package.json")) as { version: string }; // our own files
  const { plugins } = JSON.parse(read(".claude-plugin/marketplace.json")) as { plugins: { version: string }[] };
  expect(plugins.map((plugin) => plugin.version)).toEqual(plugins.map(() => version));
  expect(/const VERSION = "(.*)"/.exec(read("plugin/launch.mjs"))?.[1]).toBe(version);
});
