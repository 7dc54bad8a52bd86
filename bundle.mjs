// Bundles the command, src/cli, into dist/cli; the library beside it is what tsc makes. Why: docs/decisions/0004.
import { chmodSync } from "node:fs";

import { build } from "rolldown";

await build({
  input: { main: "src/cli/main.ts" },
  platform: "node",
  transform: { target: "node20.19" },
  output: { dir: "dist/cli", chunkFileNames: "chunks/[name].js", cleanDir: true },
});
chmodSync("dist/cli/main.js", 0o755);
