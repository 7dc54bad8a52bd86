import { openEngine } from "../app.ts";
import { formatDuration } from "../common/time.ts";
import type { Invocation } from "./invocation.ts";
import { interruptSignal } from "./signals.ts";
import { StepDisplay } from "./step-display.ts";

/** Makes what sandboxes need, the kernel image or the Python environment, or says that it is there. */
export async function build({ config }: Invocation): Promise<number> {
  await using engine = await openEngine(config);
  const startedAt = Date.now();
  using display = new StepDisplay(process.stderr);
  const tag = await engine.buildImage({ signal: interruptSignal(), onProgress: (step) => display.show(step) });
  display.finish();
  process.stdout.write(`${tag}\n`);
  process.stderr.write(`The ${engine.foundation} is ready (${formatDuration(Date.now() - startedAt)})\n`);
  return 0;
}
