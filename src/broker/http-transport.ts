import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { IpyboxError } from "../common/errors.ts";
import { within } from "../common/time.ts";
import { MAX_MESSAGE_BYTES } from "./process-transport.ts";
import type { HttpParams } from "./server-params.ts";

const NEWLINE = 0x0a;
const TERMINATE_MS = 500;

export interface HttpTransportOptions {
  /** Called when an answer breaks off: the SDK would let its call wait until the timeout. */
  readonly onBroken: (error: unknown) => void;
}

/** @throws IpyboxError `invalid-server-params` where the URL is none or no HTTP one. */
export function httpTransport(
  params: HttpParams,
  kind: "streamable_http" | "sse",
  options: HttpTransportOptions,
): Transport {
  const url = httpUrl(params.url);
  const requestInit = { headers: params.headers };
  const bounded = boundedFetch(options.onBroken);
  if (kind === "streamable_http") return new StreamableHTTPClientTransport(url, { requestInit, fetch: bounded });
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- servers that speak nothing else are still around
  return new SSEClientTransport(url, { requestInit, fetch: bounded });
}

/** Ends the session at the server and closes the transport. Never rejects, and waits for no slow server. */
export async function closeHttpTransport(transport: Transport): Promise<void> {
  const ending = transport instanceof StreamableHTTPClientTransport ? transport.terminateSession() : Promise.resolve();
  await within(TERMINATE_MS, ending).catch(() => undefined); // it may be gone already
  await transport.close();
}

function httpUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  throw new IpyboxError("invalid-server-params", `Not an http or https URL: ${text}`, {
    hint: "Give the server's whole URL, such as https://example.org/mcp.",
  });
}

/** `fetch` whose answers hold no line (that is, no message) over the limit and don't break off silently. */
function boundedFetch(onBroken: (error: unknown) => void) {
  return async (url: string | URL, init?: RequestInit): Promise<Response> => {
    const response = await fetch(url, init);
    if (!response.body) return response;
    // A stream of notifications (GET) may end and be opened again; the answer to a call (POST) may not.
    const report = init?.method === "POST" ? onBroken : () => undefined;
    const { status, statusText, headers } = response;
    const bounded = new Response(boundLines(response.body, report), { status, statusText, headers });
    // The SDK resolves redirects and endpoints against it; a constructed response has none.
    Object.defineProperty(bounded, "url", { value: response.url });
    return bounded;
  };
}

function boundLines(body: ReadableStream<Uint8Array>, onBroken: (error: unknown) => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let lineBytes = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) {
          controller.close();
          return;
        }
        const newline = value.lastIndexOf(NEWLINE);
        lineBytes = newline === -1 ? lineBytes + value.length : value.length - newline - 1;
        if (lineBytes > MAX_MESSAGE_BYTES) throw new Error(`The answer is larger than ${MAX_MESSAGE_BYTES} bytes`);
        controller.enqueue(value);
      } catch (error) {
        await reader.cancel(error).catch(() => undefined);
        controller.error(error);
        onBroken(error);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
