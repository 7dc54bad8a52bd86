import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { z } from "zod";
import { isDeeperThan } from "../common/json-depth.ts";

/** A tool as its server lists it. Schemas are hostile input that nothing here looks into. */
export interface UpstreamTool {
  readonly name: string;
  readonly title?: string;
  readonly description?: string;
  readonly inputSchema: Readonly<Record<string, unknown>>;
  readonly outputSchema?: Readonly<Record<string, unknown>>;
  readonly annotations?: Readonly<Record<string, unknown>>;
}

export interface ToolList {
  readonly tools: readonly UpstreamTool[];
  readonly warnings: readonly string[];
}

const MAX_PAGES = 200;
const MAX_TOOLS = 2000;
const MAX_NAME_CHARACTERS = 512;
/** What redaction and the generator can walk through. */
const MAX_SCHEMA_DEPTH = 450;

const page = z.looseObject({ tools: z.array(z.unknown()), nextCursor: z.string().optional() });

const schemaObject = z.record(z.string(), z.unknown());
const text = z.string().optional().catch(undefined);
const listedTool = z.object({
  name: z.string().min(1).max(MAX_NAME_CHARACTERS),
  title: text,
  description: text,
  // Whatever is no object admits anything: boolean schemas and the absent one.
  inputSchema: schemaObject.catch({}),
  outputSchema: schemaObject.optional().catch(undefined),
  annotations: schemaObject.optional().catch(undefined),
});

/**
 * All pages of a server's tools, in its order. The SDK's own `listTools` reads one, refuses the whole page for one odd
 * tool, and compiles the schemas; this one leaves out what is no tool at all, with a warning.
 */
export async function listAllTools(
  client: Client,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<ToolList> {
  const tools = new Map<string, UpstreamTool>();
  const warnings: string[] = [];
  if (!client.getServerCapabilities()?.tools) return { tools: [], warnings };
  const seenCursors = new Set<string>();
  for (let cursor: string | undefined, pages = 0; pages < MAX_PAGES; pages += 1) {
    const params = cursor === undefined ? {} : { cursor };
    const request = { signal: options.signal, timeout: options.timeoutMs };
    const result = await client.request({ method: "tools/list", params }, page, request);
    for (const item of result.tools) addTool(item, tools, warnings);
    cursor = result.nextCursor;
    if (cursor === undefined || seenCursors.has(cursor) || tools.size >= MAX_TOOLS) break;
    seenCursors.add(cursor);
  }
  if (tools.size > MAX_TOOLS) warnings.push(`Only the first ${MAX_TOOLS} of ${tools.size} tools are used`);
  return { tools: [...tools.values()].slice(0, MAX_TOOLS), warnings };
}

function addTool(item: unknown, tools: Map<string, UpstreamTool>, warnings: string[]): void {
  const parsed = listedTool.safeParse(item);
  if (!parsed.success) {
    warnings.push("Left out a tool without a usable name");
    return;
  }
  const { name, inputSchema, ...optional } = withoutDeepSchemas(parsed.data, warnings);
  if (tools.has(name)) {
    warnings.push(`Left out a second tool called ${name}`);
    return;
  }
  tools.set(name, { name, inputSchema, ...withoutUndefined(optional) });
}

function withoutDeepSchemas(tool: z.infer<typeof listedTool>, warnings: string[]): z.infer<typeof listedTool> {
  const isDeep = (schema: unknown) => isDeeperThan(MAX_SCHEMA_DEPTH, schema);
  const { inputSchema, outputSchema, ...rest } = tool;
  if (![inputSchema, outputSchema, tool.annotations].some(isDeep)) return tool;
  warnings.push(`A schema of ${tool.name} is nested deeper than ${MAX_SCHEMA_DEPTH} levels and counts as none`);
  return {
    ...rest,
    inputSchema: isDeep(inputSchema) ? {} : inputSchema,
    outputSchema: isDeep(outputSchema) ? undefined : outputSchema,
    annotations: isDeep(tool.annotations) ? undefined : tool.annotations,
  };
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutUndefined<T extends object>(value: T): Defined<T> {
  // What is left has the types of T without undefined.
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as Defined<T>;
}
