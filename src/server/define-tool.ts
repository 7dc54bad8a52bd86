import type { CallToolResult, Tool as ToolListing, ToolAnnotations } from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";

import { IpyboxError } from "../common/errors.ts";
import { describeIssues } from "../common/issues.ts";
import type { ProgressReporter } from "./progress.ts";

/** What a tool's handler gets beside its arguments. */
export interface CallContext {
  /** Aborts when the client cancels the request or goes. */
  readonly signal: AbortSignal;
  readonly progress: ProgressReporter;
  /** Whether the negotiated protocol version has `resource_link` content. */
  readonly resourceLinks: boolean;
}

export interface Tool {
  readonly listing: ToolListing;
  call(args: unknown, context: CallContext): Promise<CallToolResult>;
}

export interface ToolSpec<Input extends z.ZodObject> {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly annotations: ToolAnnotations;
  readonly input: Input;
  handle(args: z.output<Input>, context: CallContext): Promise<CallToolResult>;
}

/** Joins a tool's listing, its lenient argument check and its handler. */
export function defineTool<Input extends z.ZodObject>(spec: ToolSpec<Input>): Tool {
  return {
    listing: {
      name: spec.name,
      title: spec.title,
      description: spec.description,
      // The JSON Schema of a z.object has type "object".
      inputSchema: z.toJSONSchema(spec.input, { io: "input" }) as ToolListing["inputSchema"],
      annotations: { title: spec.title, ...spec.annotations },
    },
    call: (args, context) => spec.handle(parseArguments(spec, args), context),
  };
}

/**
 * Lets the tool judge the arguments of a call that are no object, which for the SDK is an error of the protocol. JSON text is
 * taken for what it was meant to be, and null for none.
 */
export function admitArguments(message: unknown): void {
  if (!isRecord(message) || message["method"] !== "tools/call" || !isRecord(message["params"])) return;
  const { params } = message;
  const given = params["arguments"];
  if (given === undefined || isRecord(given)) return;
  const meant: unknown = typeof given === "string" ? parseJson(given) : given;
  if (meant === null) delete params["arguments"];
  else params["arguments"] = isRecord(meant) ? meant : { arguments: given };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseArguments<Input extends z.ZodObject>(spec: ToolSpec<Input>, args: unknown): z.output<Input> {
  const parsed = spec.input.safeParse(coerce(args ?? {}, spec.input), { reportInput: true });
  if (parsed.success) return parsed.data;
  const problems = describeIssues(parsed.error, "arguments");
  const taken = Object.keys(spec.input.shape);
  throw new IpyboxError("invalid-arguments", `wrong arguments for ${spec.name}: ${problems.join("; ")}`, {
    hint: `Call it again as its input schema says; its arguments are ${taken.join(", ") || "none"}.`,
  });
}

/** Some clients send numbers as numeric strings and objects as JSON text: taken for what they were meant to be. */
function coerce(args: unknown, input: z.ZodObject): unknown {
  if (typeof args !== "object" || args === null) return args;
  const entries = Object.entries(args).map(([name, value]: [string, unknown]) => {
    const kind = kindOf(input.shape[name]);
    if (typeof value !== "string") return [name, value];
    if (kind === "number" && value.trim() !== "" && Number.isFinite(Number(value))) return [name, Number(value)];
    if (kind === "record") return [name, parseJson(value) ?? value];
    return [name, value];
  });
  return Object.fromEntries(entries);
}

function kindOf(schema: unknown): string | undefined {
  if (schema instanceof z.ZodDefault) return kindOf(schema.unwrap());
  return schema instanceof z.ZodType ? schema.def.type : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
