import { openEngine } from "../app.ts";
import type { Invocation } from "./invocation.ts";

const MARKS = { ok: "ok  ", warn: "warn", fail: "fail" } as const;

/** Checks what ipybox needs, a line each with its remedy; exit code 1 when something fails. */
export async function doctor({ config, own }: Invocation): Promise<number> {
  await using engine = await openEngine(config);
  const diagnoses = await engine.diagnose();
  if (own["json"] !== undefined) process.stdout.write(`${JSON.stringify(diagnoses, null, 2)}\n`);
  else {
    for (const { name, status, detail, remedy } of diagnoses) {
      process.stdout.write(
        `${MARKS[status]}  ${name}: ${detail}\n${remedy === undefined ? "" : `      → ${remedy}\n`}`,
      );
    }
  }
  return diagnoses.some(({ status }) => status === "fail") ? 1 : 0;
}
