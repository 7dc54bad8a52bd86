import { text } from "node:stream/consumers";
import { z } from "zod";
import { describeIssues } from "../../common/issues.ts";

// A program of its own: sandbox-runtime keeps its state in the process, goes by its working directory, and handles its
// signals. Reads a request from stdin, writes an answer to stdout.

const requestSchema = z.object({
  /** Undefined: only what is needed is looked for. */
  command: z.array(z.string()).optional(),
  settings: z.unknown(),
});

/** What {@link SrtConfinement} is answered. */
export type WrapAnswer =
  | { readonly type: "command"; readonly command: string }
  | { readonly type: "ready" }
  | { readonly type: "absent" }
  | { readonly type: "missing"; readonly needs: readonly string[] }
  | { readonly type: "refused"; readonly problems: readonly string[] };

process.stdout.write(JSON.stringify(await answer(requestSchema.parse(JSON.parse(await text(process.stdin))))));
process.exit(0); // it may hold timers

async function answer({ command, settings }: z.output<typeof requestSchema>): Promise<WrapAnswer> {
  const runtime = await import("@anthropic-ai/sandbox-runtime").catch(() => undefined);
  if (runtime === undefined) return { type: "absent" };
  const { SandboxManager, SandboxRuntimeConfigSchema } = runtime;
  const { errors, warnings } = SandboxManager.checkDependencies();
  // Without its filter a sandbox could connect to every unix socket of the user's.
  const needs = [...errors, ...warnings.filter((warning) => warning.includes("seccomp"))];
  if (needs.length > 0) return { type: "missing", needs };
  const parsed = SandboxRuntimeConfigSchema.safeParse(settings);
  if (!parsed.success) {
    return { type: "refused", problems: describeIssues(parsed.error, "the settings") };
  }
  if (command === undefined) return { type: "ready" };
  SandboxManager.updateConfig(parsed.data);
  return { type: "command", command: await SandboxManager.wrapWithSandbox(quote(command), "sh") };
}

/** As a POSIX shell reads it. */
function quote(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", `'"'"'`)}'`).join(" ");
}
