import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

// Plain JavaScript, so that it runs without a build step.
// @ts-expect-error -- it has no declarations
import { withTables } from "../../docs/readme-tables.mjs";
import { ERROR_CODES } from "../../src/common/errors.ts";
import { flagName, OPTIONS, variableName } from "../../src/config/options.ts";

test("the README's tables are what the code says (`make readme` writes them)", () => {
  const readme = readFileSync(join(import.meta.dirname, "../../README.md"), "utf8");
  const generate = withTables as (text: string, code: object) => string;
  expect(readme).toBe(generate(readme, { OPTIONS, flagName, variableName, ERROR_CODES }));
});
