import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { IpyboxError } from "../common/errors.ts";
import { restoreIntegers } from "../common/exact-integers.ts";
import { within } from "../common/time.ts";
import { markResultLines } from "./exact-results.ts";
import { MAX_MESSAGE_BYTES } from "./process-transport.ts";
import type { HttpParams } from "./server-params.ts";

const NEWLINE = 0x0a;
const TERMINATE_MS = 500;

/** As much of `fetch` as MCP over HTTP takes. */
export type HttpFetch = (url: string | URL, request: HttpRequest) => Promise<HttpAnswer>;

export interface HttpRequest {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  readonly redirect: "follow" | "manual" | "error";
  readonly signal: AbortSignal | null;
}

export interface HttpAnswer {
  readonly url: string;
  readonly status: number;
  readonly statusText: string;
  readonly headers: Iterable<[string, string]>;
  readonly body: ReadableStream<Uint8Array> | null;
}

export interface HttpTransportOptions {
  readonly fetch: HttpFetch;
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
  const bounded = boundedFetch(kind, options);
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
function boundedFetch(kind: "streamable_http" | "sse", { fetch, onBroken }: HttpTransportOptions) {
  return async (url: string | URL, init: RequestInit = {}): Promise<Response> => {
    const answer = await fetch(url, {
      method: init.method ?? "GET",
      headers: Object.fromEntries(new Headers(init.headers)),
      body: typeof init.body === "string" ? restoreIntegers(init.body) : null, // the SDK sends JSON text
      redirect: init.redirect ?? "follow",
      signal: init.signal ?? null,
    });
    const isPost = init.method === "POST";
    const watch: StreamWatch = {
      // With SSE all answers come in one stream (GET), whose end is the session's. With streamable HTTP the answer to a
      // call (POST) must not break off, while the stream of notifications may, and is opened again.
      onEnd: kind === "sse" && !isPost ? () => onBroken(new Error("the event stream ended")) : () => undefined,
      onError: (kind === "sse") === isPost ? () => undefined : onBroken,
    };
    const { status, statusText } = answer;
    const body = answer.body && boundLines(answer.body, watch).pipeThrough(markResultLines());
    const bounded = new Response(body, { status, statusText, headers: [...answer.headers] });
    // The SDK resolves redirects and endpoints against it; a constructed response has none.
    Object.defineProperty(bounded, "url", { value: answer.url });
    return bounded;
  };
}

interface StreamWatch {
  readonly onEnd: () => void;
  readonly onError: (error: unknown) => void;
}

function boundLines(body: ReadableStream<Uint8Array>, watch: StreamWatch): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let lineBytes = 0;
  let wanted = true;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!wanted) return;
        if (done) {
          controller.close();
          watch.onEnd();
          return;
        }
        const newline = value.lastIndexOf(NEWLINE);
        lineBytes = newline === -1 ? lineBytes + value.length : value.length - newline - 1;
        if (lineBytes > MAX_MESSAGE_BYTES) throw new Error(`The answer is larger than ${MAX_MESSAGE_BYTES} bytes`);
        controller.enqueue(value);
      } catch (error) {
        await reader.cancel(error).catch(() => undefined);
        controller.error(error);
        watch.onError(error);
      }
    },
    cancel: (reason) => {
      wanted = false;
      return reader.cancel(reason);
    },
  });
}
