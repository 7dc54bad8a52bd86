import { openEngine } from "../app.ts";
import type { Invocation } from "./invocation.ts";

/** Removes what nobody needs any more, and says what that was. */
export async function prune({ config, own }: Invocation): Promise<number> {
  await using engine = await openEngine(config);
  const report = await engine.prune({ all: own["all"] !== undefined });
  const lines = Object.entries(report).flatMap(([kind, names]: [string, readonly string[]]) =>
    names.map((name) => `removed ${kind.slice(0, -1)} ${name}`),
  );
  process.stdout.write(lines.length === 0 ? "Nothing to remove\n" : `${lines.join("\n")}\n`);
  return 0;
}
