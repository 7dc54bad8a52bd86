import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";

const ROOT = resolve(import.meta.dirname, "../..");
const NOTES = readFileSync(join(ROOT, "docs/security.md"), "utf8");

test("every test that docs/security.md names is there, under the name that it gives", () => {
  const named = [...NOTES.matchAll(/`([\w./-]+\.test\.ts)`(?: › _([^_…]+?) ?…?_)?/g)];
  expect(named.length).toBeGreaterThan(20);
  const missing = named.filter(([, file = "", title = ""]) => {
    const path = join(ROOT, file.includes("/") ? file : `test/attempts/${file}`);
    return !existsSync(path) || !readFileSync(path, "utf8").includes(title);
  });
  expect(missing.map(([text]) => text)).toEqual([]);
});
