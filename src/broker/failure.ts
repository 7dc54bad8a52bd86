import { SseError } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPError } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { McpError } from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";
import { messageOf, systemCodeOf } from "../common/errors.ts";
import type { Redactor } from "./redaction.ts";

const MAX_BODY_CHARACTERS = 500;

/** Of OpenSSL, whose messages are addresses and source files of its own. */
const TLS_CODES = "ERR_SSL_";

const IN_WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  ENOTFOUND: "host not found",
  EAI_AGAIN: "host not found",
  ETIMEDOUT: "connection timed out",
  EACCES: "permission denied",
};

/**
 * What went wrong with a connection, in the words of whoever knows: HTTP status, system error, the server itself. Long
 * words are cut, which is why secrets are taken out before.
 */
export function describeFailure(error: unknown, redactor: Redactor): string {
  const status = httpStatusOf(error);
  if (status !== undefined) return `HTTP ${status}${redactor.text(bodyOf(error)).slice(0, MAX_BODY_CHARACTERS)}`;
  if (error instanceof McpError) return mcpMessage(error);
  if (error instanceof z.core.$ZodError) return "the answer is no MCP message";
  const root = rootCause(error);
  const code = systemCodeOf(root);
  if (code?.startsWith(TLS_CODES))
    return `TLS failed: ${code.slice(TLS_CODES.length).toLowerCase().replaceAll("_", " ")}`;
  return (code === undefined ? undefined : IN_WORDS[code]) ?? messageOf(root);
}

/** The HTTP status with which a server refused, or undefined. */
export function httpStatusOf(error: unknown): number | undefined {
  const code = error instanceof StreamableHTTPError || error instanceof SseError ? error.code : undefined;
  return code !== undefined && code > 0 ? code : undefined;
}

/** The message as the server sent it: the SDK puts its own words in front. */
export function mcpMessage(error: McpError): string {
  const prefix = `MCP error ${error.code}: `;
  return error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
}

function bodyOf(error: unknown): string {
  const body = /^(?:Streamable HTTP error: )?Error POSTing to endpoint: ([^]*)$/.exec(messageOf(error))?.[1]?.trim();
  return body === undefined || body === "" || body === "null" ? "" : `: ${body}`;
}

/** `fetch` says "fetch failed" and keeps the reason; several addresses tried make an AggregateError. */
function rootCause(error: unknown): unknown {
  if (error instanceof AggregateError && error.errors.length > 0) return rootCause(error.errors[0]);
  return error instanceof Error && error.cause instanceof Error ? rootCause(error.cause) : error;
}
