import { z } from "zod";
import { IpyboxError } from "../common/errors.ts";

const DEFAULT_CONNECT_TIMEOUT_S = 30;
/** Some clients send numbers as text. */
const toNumber = (value: unknown) => (typeof value === "string" && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value);
const timeout = z.preprocess(toNumber, z.number().positive().max(3600)).default(DEFAULT_CONNECT_TIMEOUT_S);

const stdioParams = z.strictObject({
  type: z.literal("stdio").default("stdio"),
  command: z.string().min(1),
  args: z.array(z.string()).default([]),
  env: z.record(z.string(), z.string()).default({}),
  cwd: z.string().optional(),
  /** Seconds that connecting may take. */
  timeout,
});

const httpParams = z.strictObject({
  /** Absent: streamable HTTP, and SSE where the server answers that with a 4xx status. */
  type: z.enum(["http", "streamable_http", "sse"]).optional(),
  url: z.string().min(1),
  headers: z.record(z.string(), z.string()).default({}),
  timeout,
});

export type StdioParams = z.infer<typeof stdioParams>;
export type HttpParams = z.infer<typeof httpParams>;
export type ServerParams = StdioParams | HttpParams;

/** As they were given, placeholders unresolved: what the registry keeps and `ipybox servers` shows. */
export const storedParams: z.ZodType<ServerParams> = z.union([stdioParams, httpParams]);

export interface ParsedParams {
  readonly params: ServerParams;
  readonly warnings: readonly string[];
}

/**
 * Checks the shape of `server_params`. Keys that we don't know are an error, or with `unknownKeys: "warn"` (the file
 * may be another client's own) a warning.
 *
 * @throws IpyboxError `invalid-server-params` that names what is wrong.
 */
export function parseServerParams(input: unknown, options: { readonly unknownKeys: "error" | "warn" }): ParsedParams {
  const schema = schemaFor(input);
  const result = schema.safeParse(input);
  if (result.success) return { params: result.data, warnings: [] };
  const unknown = result.error.issues.flatMap((issue) => (issue.code === "unrecognized_keys" ? issue.keys : []));
  if (unknown.length > 0 && options.unknownKeys === "warn") {
    const known = Object.fromEntries(Object.entries(asObject(input)).filter(([key]) => !unknown.includes(key)));
    const { params } = parseServerParams(known, { unknownKeys: "error" });
    return { params, warnings: [`Ignored unknown keys of the server parameters: ${unknown.join(", ")}`] };
  }
  throw invalidParams(z.prettifyError(result.error), Object.keys(schema.shape));
}

function schemaFor(input: unknown): typeof stdioParams | typeof httpParams {
  const data = asObject(input);
  const isStdio = "command" in data;
  const isHttp = "url" in data;
  if (isStdio && isHttp) throw invalidParams("both `command` (a stdio server) and `url` (an HTTP server) are given");
  if (!isStdio && !isHttp)
    throw invalidParams("neither `command` (a stdio server) nor `url` (an HTTP server) is given");
  return isStdio ? stdioParams : httpParams;
}

function asObject(input: unknown): Record<string, unknown> {
  const { success, data } = z.looseObject({}).safeParse(input);
  if (!success) throw invalidParams("not an object");
  return data;
}

function invalidParams(why: string, known: readonly string[] = []): IpyboxError {
  return new IpyboxError("invalid-server-params", `Invalid server parameters: ${why}`, {
    hint:
      known.length > 0
        ? `The keys are ${known.join(", ")}.`
        : 'Give {"command": …, "args": […], "env": {…}} or {"url": …, "headers": {…}}.',
  });
}

const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
const KEYWORDS = new Set(
  (
    "False None True and as assert async await break class continue def del elif else except finally for from global " +
    "if import in is lambda nonlocal not or pass raise return try while with yield"
  ).split(" "),
);

/** @throws IpyboxError `invalid-server-name` unless `name` can be the name of a Python package of ours. */
export function checkServerName(name: string): void {
  if (IDENTIFIER.test(name) && !KEYWORDS.has(name) && !name.startsWith("__")) return;
  throw new IpyboxError("invalid-server-name", `Invalid server name ${JSON.stringify(name.slice(0, 100))}`, {
    hint: "Use a Python identifier of at most 64 ASCII letters, digits and underscores that is no keyword, such as brave_search.",
  });
}
