import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { serializeMessage } from "@modelcontextprotocol/sdk/shared/stdio.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";

/** Our messages on stdout, in JSON that every client can parse. */
export class StdioTransport extends StdioServerTransport {
  override send(message: JSONRPCMessage): Promise<void> {
    return new Promise((resolve) => {
      if (process.stdout.write(wellFormed(serializeMessage(message)))) resolve();
      else process.stdout.once("drain", resolve);
    });
  }
}

/**
 * The same JSON with U+FFFD for each half of a surrogate pair that stands alone. Those are escapes, and a parser may refuse
 * the whole message for one: Python clients do, and would wait for the answer for ever.
 */
export function wellFormed(json: string): string {
  if (!json.includes("\\ud")) return json;
  // A backslash that is escaped itself begins nothing.
  return json.replaceAll(/\\(?:\\|ud[89a-f][0-9a-f]{2})/g, (escape) => (escape === "\\\\" ? escape : "\ufffd"));
}
