import { openEngine } from "../app.ts";
import { oneLine } from "../common/one-line.ts";
import { formatDuration } from "../common/time.ts";
import type { Invocation } from "./invocation.ts";
import { formatTable } from "./table.ts";

/** Lists the sandboxes of this engine, whoever owns them. */
export async function ps({ config, own }: Invocation): Promise<number> {
  await using engine = await openEngine(config);
  const sandboxes = await engine.listSandboxes();
  if (own["json"] !== undefined) {
    process.stdout.write(`${JSON.stringify(sandboxes, null, 2)}\n`);
    return 0;
  }
  const rows = sandboxes.map(({ session, role, workspace, owner, ownerPid, ageMs, memoryBytes }) => [
    session,
    role,
    owner === "alive" && ownerPid !== undefined ? `alive (pid ${ownerPid})` : owner,
    formatDuration(Math.round(ageMs / 1000) * 1000),
    memoryBytes === undefined ? "?" : `${Math.round(memoryBytes / 2 ** 20)} MiB`,
    oneLine(workspace, Infinity),
  ]);
  process.stdout.write(`${formatTable(["SESSION", "ROLE", "OWNER", "AGE", "MEMORY", "WORKSPACE"], rows)}\n`);
  return 0;
}
