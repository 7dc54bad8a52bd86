import { expect, test } from "vitest";

import { INSTRUCTIONS } from "../../../src/server/instructions.ts";

test("the instructions fit into every prompt", () => {
  expect(INSTRUCTIONS.length).toBeLessThanOrEqual(1500);
});
