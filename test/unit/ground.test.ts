import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, test } from "vitest";

import { loadConfig } from "../../src/config/load.ts";
import { layGround } from "../../src/ground.ts";

test("what can't be shared is said at once, with what to do about it", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ground-"));
  const mount = ["/etc:/data", `${directory}/none:/data`, "a:relative"];
  const loaded = loadConfig({ flags: { workspace: "/", mount }, env: { XDG_CONFIG_HOME: directory } });
  const refused = loaded.config && layGround(loaded.config);
  await expect(refused).rejects.toMatchObject({
    code: "invalid-workspace",
    message: [
      "/ can't be shared as workspace: it is the whole file system",
      "/etc can't be shared as mount: it is a system directory",
      `${directory}/none can't be mounted: ENOENT: no such file or directory, realpath '${directory}/none'`,
      "--mount 'a:relative' is not SRC[:DST][:rw]",
    ].join("\n"),
    hint: expect.stringMatching(/--workspace.*narrower directory.*DST must be/) as string,
  });
  rmSync(directory, { recursive: true });
});
