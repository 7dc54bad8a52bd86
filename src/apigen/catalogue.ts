import { z } from "zod";
import { IpyboxError } from "../common/errors.ts";
import { moduleNames } from "./names.ts";

/** A tool as its server lists it; its schemas are handed on unread. */
export interface CatalogueTool {
  readonly name: string;
  readonly description?: string;
  readonly inputSchema: unknown;
  readonly outputSchema?: unknown;
}

export interface GeneratedModule {
  readonly tool: string;
  /** Name of its Python module in `mcptools.<server>`. */
  readonly module: string;
  /** Why parts of it are untyped; undefined when all of it is typed. */
  readonly fallback: string | undefined;
}

export interface GenerateOptions {
  /** Sends JSON to the sandbox's gateway and resolves to whatever JSON it answers, with the HTTP status. */
  readonly post: (path: string, body: unknown, signal: AbortSignal) => Promise<{ status: number; body: unknown }>;
  readonly signal: AbortSignal;
}

/** Has the sandbox start what generates APIs: its imports take a second, which connecting to an MCP server takes too. */
export async function warmUpGenerator({ post, signal }: GenerateOptions): Promise<void> {
  await post("/ipybox/generator", {}, signal);
}

/**
 * Replaces the package `mcptools/<server>` in the workspace: names are decided here, the sandbox generates and writes.
 * Resolves to the modules in the order of `tools`; rejects with `generation-failed`, the earlier package untouched.
 */
export async function generateApi(
  server: string,
  tools: readonly CatalogueTool[],
  { post, signal }: GenerateOptions,
): Promise<GeneratedModule[]> {
  const names = moduleNames(tools.map((tool) => tool.name));
  const request = {
    server,
    tools: tools.map((tool, index) => ({
      name: tool.name,
      module: names[index],
      description: tool.description,
      inputSchema: tool.inputSchema,
      outputSchema: tool.outputSchema,
    })),
  };
  const { status, body } = await post("/ipybox/generate", request, signal);
  if (status !== 200) throw failure(server, reasonOf(body) ?? `the generator answered with status ${status}`);
  const answer = answerSchema.safeParse(body);
  const modules = answer.success ? answer.data.modules : [];
  if (modules.length !== names.length || modules.some(({ module }, index) => module !== names[index])) {
    throw failure(server, "the generator's answer is not what was asked for");
  }
  return tools.map((tool, index) => ({
    tool: tool.name,
    module: names[index] ?? "",
    fallback: modules[index]?.fallback ?? undefined,
  }));
}

// What the sandbox says is hostile, and only shown to people.
const reason = z.string().transform((text) => text.slice(0, 1000));
const answerSchema = z.object({
  modules: z.array(z.object({ module: z.string().max(200), fallback: reason.nullable() })),
});
const refusalSchema = z.object({ error: reason });

function reasonOf(body: unknown): string | undefined {
  return refusalSchema.safeParse(body).data?.error;
}

function failure(server: string, why: string): IpyboxError {
  return new IpyboxError("generation-failed", `The Python API of ${server} could not be generated: ${why}`, {
    hint: "Look at the workspace's mcptools directory: it must be a writable directory, not a link. Then register the server again.",
  });
}
