import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { packageFile, programFile } from "../../../src/common/package-files.ts";

test("files of the package are found from its root", () => {
  expect(JSON.parse(readFileSync(packageFile("package.json"), "utf8"))).toMatchObject({ name: "ipybox" });
  expect(existsSync(packageFile("images/kernel/Dockerfile"))).toBe(true);
});

test("a program of a checkout is its source", () => {
  expect(programFile("sandbox/docker/sweep-dead-owners")).toMatch(/\/src\/sandbox\/docker\/sweep-dead-owners\.ts$/);
  expect(existsSync(programFile("sandbox/docker/sweep-dead-owners"))).toBe(true);
});
