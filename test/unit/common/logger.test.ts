import { expect, it } from "vitest";
import { createLogger } from "../../../src/common/logger.ts";

// eslint-disable-next-line no-control-regex -- controls are what is looked for
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;
const HOSTILE = "\u001b[2J \u009b2J \u009d0;owned\u009c \u0007\b\r \u001b]0;owned\u0007";

it.each(["text", "json"] as const)("a line of %s has no control sequence and no other line in it", (format) => {
  const lines: string[] = [];
  const logger = createLogger({ level: "info", format, write: (line) => lines.push(line) });
  logger.warn("said", { text: `${HOSTILE}\nforged`, error: new Error(`${HOSTILE}\nforged`) });
  expect(lines).toHaveLength(1);
  expect(lines[0]?.trimEnd()).toMatch(/^[^\n]*said[^\n]*forged[^\n]*$/);
  expect(lines[0]?.slice(0, -1)).not.toMatch(CONTROLS);
});
