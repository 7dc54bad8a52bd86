import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Response } from "undici";
import { IpyboxError, messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import type { HostHttp } from "./host-http.ts";
import { authorizationFor, type Credentials, type PackageIndex } from "./index-config.ts";
import { parseProjectPage, renderProjectPage, SIMPLE_ACCEPT, SIMPLE_JSON, type IndexFile } from "./simple-index.ts";
import { isSourceOnlyMark, withSourceOnlyMarks } from "./source-only.ts";
import type { WheelCache } from "./wheel-cache.ts";

export interface IndexProxyOptions {
  /** Served as `/index/<n>/`, in this order. */
  readonly indexes: readonly PackageIndex[];
  readonly http: HostHttp;
  readonly cache: WheelCache;
  /** Whether a version that can be built has a wheel besides, which is not there: see {@link withSourceOnlyMarks}. */
  readonly marksSourceOnly: boolean;
  /** Credentials for a host besides those of the index URL. */
  readonly netrc: (host: string) => Credentials | undefined;
  readonly logger: Logger;
}

/**
 * The package indexes of the host for one installer: `/index/<n>/simple/<project>/` and the files that such a page
 * named, `/index/<n>/files/<token>/<filename>`; nothing else can be reached. Credentials are added here.
 */
export class IndexProxy {
  readonly #options: IndexProxyOptions;
  readonly #files = new Map<string, IndexFile>();

  constructor(options: IndexProxyOptions) {
    this.#options = options;
  }

  /** Answers a request from the installer. Never throws: what fails is the answer. */
  async handle(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    try {
      if (request.method !== "GET" && request.method !== "HEAD") {
        sendText(response, 405, "only GET and HEAD");
        return;
      }
      const path = (request.url ?? "").split("?")[0] ?? "";
      const page = SIMPLE_PATH.exec(path);
      if (page) {
        await this.#servePage(Number(page[1]), page[2] ?? "", response, signal);
        return;
      }
      if (SOURCE_ONLY_PATH.test(path)) {
        sendText(response, 410, "there is no wheel: it has to be built");
        return;
      }
      const file = FILE_PATH.exec(path);
      if (file) {
        await this.#serveFile(Number(file[1]), file[2] ?? "", path, request.method, response, signal);
        return;
      }
      sendText(response, 404, "no such page");
    } catch (error) {
      if (signal.aborted) return void response.destroy();
      this.#options.logger.warn("package index request failed", { error });
      // Nothing internal goes into the container: causes may name proxies.
      if (response.headersSent) response.destroy();
      else sendText(response, 502, error instanceof IpyboxError ? error.message : "the package index can't be reached");
    }
  }

  async #servePage(number: number, project: string, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const index = this.#options.indexes[number];
    if (index === undefined) {
      sendText(response, 404, "no such index");
      return;
    }
    const normalized = project.replaceAll(/[-_.]+/g, "-").toLowerCase();
    const answer = await this.#fetch(new URL(`${normalized}/`, index.url), index, { accept: SIMPLE_ACCEPT }, signal);
    if (!answer.ok) return refuse(answer, response);
    const body = await readText(answer);
    const files = parseProjectPage(body, answer.headers.get("content-type") ?? "", new URL(answer.url)).filter(
      // An index behind TLS names no files beyond its reach.
      (file) => file.url.protocol === "https:" || index.url.protocol === "http:",
    );
    const offered = this.#options.marksSourceOnly ? withSourceOnlyMarks(normalized, files) : files;
    const text = renderProjectPage(normalized, offered, (file) =>
      isSourceOnlyMark(file) ? `/index/${number}/source-only/${file.filename}` : this.#addressOf(number, file),
    );
    response.writeHead(200, { "content-type": SIMPLE_JSON, "cache-control": "no-store" }).end(text);
  }

  #addressOf(number: number, file: IndexFile): string {
    const token = createHash("sha256").update(`${number} ${file.url.href}`).digest("hex").slice(0, 32);
    if (this.#files.size < MAX_FILES) this.#files.set(token, file);
    return `/index/${number}/files/${token}/${encodeURIComponent(file.filename)}`;
  }

  async #serveFile(
    number: number,
    token: string,
    path: string,
    method: string,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const index = this.#options.indexes[number];
    const file = this.#files.get(token);
    if (index === undefined || file === undefined) {
      sendText(response, 404, "no page named this file");
      return;
    }
    const metadata = path.endsWith(".metadata") && !file.filename.endsWith(".metadata");
    const url = metadata ? withSuffix(file.url, ".metadata") : file.url;
    const sha256 = metadata ? metadataHash(file) : file.hashes["sha256"];
    const type = { "content-type": "application/octet-stream" };
    const cached = sha256 === undefined ? undefined : await this.#options.cache.open(url, sha256);
    if (cached !== undefined) {
      response.writeHead(200, { ...type, "content-length": cached.size });
      if (method === "HEAD") {
        await cached.file.close();
        return void response.end();
      }
      await pipeline(cached.file.createReadStream(), response, { signal });
      return;
    }
    // Compressed on the way, a source archive would arrive unpacked.
    const answer = await this.#fetch(url, index, { "accept-encoding": "identity" }, signal);
    if (!answer.ok || answer.body === null) return refuse(answer, response);
    const length = answer.headers.get("content-length");
    response.writeHead(200, { ...type, ...(length !== null && { "content-length": length }) });
    if (method === "HEAD") {
      await answer.body.cancel();
      return void response.end();
    }
    // Passing the body on by hand: undici's and Node's declarations of web streams differ.
    const body = Readable.from(answer.body);
    await pipeline(body, (chunks: AsyncIterable<Uint8Array>) => this.#keep(chunks, url, sha256), response, { signal });
  }

  /**
   * Passes a download on and keeps it. Each chunk waits for the next one, so that the last is held back until the hash
   * is known: content with a wrong one never arrives whole.
   */
  async *#keep(chunks: AsyncIterable<Uint8Array>, url: URL, sha256: string | undefined): AsyncGenerator<Uint8Array> {
    const entry = sha256 === undefined ? undefined : await this.#options.cache.begin(url, sha256);
    let bytes = 0;
    let held: Uint8Array | undefined;
    let complete = false;
    try {
      for await (const chunk of chunks) {
        bytes += chunk.byteLength;
        if (bytes > MAX_FILE_BYTES) throw new IpyboxError("install-failed", `${url.pathname} is larger than 16 GiB`);
        await entry?.write(chunk);
        if (held) yield held;
        held = chunk;
      }
      complete = true;
    } finally {
      if (!complete) await entry?.abort();
    }
    if (entry !== undefined && !(await entry.commit())) {
      throw new IpyboxError("install-failed", `${url.pathname} does not have the hash that its index names`);
    }
    if (held) yield held;
    await this.#options.cache.trim();
  }

  async #fetch(url: URL, index: PackageIndex, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
    // fetch takes the authorization off when a redirect leads to another origin.
    const authorization = authorizationFor(url, index, this.#options.netrc);
    try {
      return await this.#options.http.fetch(url, {
        headers: { "user-agent": "ipybox", ...headers, ...authorization },
        signal,
      });
    } catch (error) {
      if (signal.aborted) throw error;
      const reason = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : messageOf(error);
      throw new IpyboxError("install-failed", `the package index ${url.host} can't be reached: ${reason}`, {
        cause: error,
      });
    }
  }
}

async function readText(answer: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of Readable.from(answer.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > MAX_PAGE_BYTES)
      throw new IpyboxError("install-failed", `the page ${answer.url} is larger than 128 MiB`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Passes an index's refusal on in a few words; its page stays here. */
async function refuse(answer: Response, response: ServerResponse): Promise<void> {
  await answer.body?.cancel();
  const status = answer.status >= 400 ? answer.status : 502;
  sendText(response, status, `the package index answered ${answer.status}`);
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
}

function metadataHash(file: IndexFile): string | undefined {
  return typeof file.coreMetadata === "object" ? file.coreMetadata["sha256"] : undefined;
}

function withSuffix(url: URL, suffix: string): URL {
  const result = new URL(url);
  result.pathname += suffix;
  return result;
}

const SIMPLE_PATH = /^\/index\/(\d{1,3})\/simple\/([A-Za-z0-9][A-Za-z0-9._-]{0,200})\/?$/;
/** What the installer knows it by, in uv's words. */
const SOURCE_ONLY_PATH = /^\/index\/\d{1,3}\/source-only\//;
const FILE_PATH = /^\/index\/(\d{1,3})\/files\/([0-9a-f]{32})\/[^/]+$/;
// PyPI's largest project pages are some 30 MB of JSON.
const MAX_PAGE_BYTES = 128 * 1024 * 1024;
const MAX_FILE_BYTES = 16 * 1024 ** 3;
const MAX_FILES = 1_000_000;
