import { expect, it } from "vitest";
import { temporaryBase } from "../../../src/sandbox/link/run-directory.ts";

const MACOS = "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T";
const WINDOWS = "C:\\Users\\maximiliane.mustermann\\AppData\\Local\\Temp";

it.each([
  ["/tmp", "linux", "/tmp"],
  [MACOS, "darwin", "/tmp"],
  [WINDOWS, "win32", WINDOWS],
] as const)("where temporary files are in %s on %s, run directories are in %s", (usual, platform, base) => {
  expect(temporaryBase(usual, platform)).toBe(base);
});
