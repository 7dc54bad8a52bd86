import { z } from "zod";

export const SIMPLE_JSON = "application/vnd.pypi.simple.v1+json";
/** What we ask an index for: JSON (PEP 691) where it has it, HTML (PEP 503) otherwise. */
export const SIMPLE_ACCEPT = `${SIMPLE_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1`;

/** A file of a project, as an index names it. */
export interface IndexFile {
  readonly filename: string;
  readonly url: URL;
  readonly hashes: Readonly<Record<string, string>>;
  readonly requiresPython: string | undefined;
  /** `true`, or the reason. */
  readonly yanked: boolean | string;
  /** PEP 658: `true`, or the hashes of the `.metadata` file beside. */
  readonly coreMetadata: boolean | Readonly<Record<string, string>>;
  readonly size: number | undefined;
  readonly uploadTime: string | undefined;
}

/**
 * Reads a project page of a simple index; relative links are resolved against `pageUrl`. Links that are no http(s)
 * URL or whose file name is no plain name are left out. Throws on JSON of another shape.
 */
export function parseProjectPage(body: string, contentType: string, pageUrl: URL): IndexFile[] {
  const files = contentType.includes("json") ? parseJson(body, pageUrl) : parseHtml(body, pageUrl);
  return files.filter((file) => FILENAME.test(file.filename) && /^https?:$/.test(file.url.protocol));
}

/** The page as PEP 691 JSON, with other addresses for its files. */
export function renderProjectPage(
  project: string,
  files: readonly IndexFile[],
  addressOf: (file: IndexFile) => string,
): string {
  return JSON.stringify({
    meta: { "api-version": "1.0" },
    name: project,
    files: files.map((file) => ({
      filename: file.filename,
      url: addressOf(file),
      hashes: file.hashes,
      yanked: file.yanked,
      "core-metadata": file.coreMetadata,
      "dist-info-metadata": file.coreMetadata,
      ...(file.requiresPython !== undefined && { "requires-python": file.requiresPython }),
      ...(file.size !== undefined && { size: file.size }),
      ...(file.uploadTime !== undefined && { "upload-time": file.uploadTime }),
    })),
  });
}

function parseJson(body: string, pageUrl: URL): IndexFile[] {
  return PROJECT_PAGE.parse(JSON.parse(body)).files.flatMap((file) => {
    const url = resolve(file.url, pageUrl);
    if (url === undefined) return [];
    return {
      filename: file.filename,
      url,
      hashes: file.hashes,
      requiresPython: file["requires-python"] ?? undefined,
      yanked: file.yanked,
      coreMetadata: file["core-metadata"] ?? file["dist-info-metadata"] ?? false,
      size: file.size ?? undefined,
      uploadTime: file["upload-time"] ?? undefined,
    };
  });
}

function parseHtml(body: string, pageUrl: URL): IndexFile[] {
  const tags = readTags(body);
  const baseHref = tags.find(({ name }) => name === "base")?.attributes.get("href");
  const base = resolve(baseHref ?? "", pageUrl) ?? pageUrl;
  return tags.flatMap(({ name, attributes, text }) => {
    const url = name === "a" ? resolve(attributes.get("href") ?? "", base) : undefined;
    if (url === undefined) return [];
    const hashes = toHashes(url.hash.slice(1)) ?? {};
    url.hash = "";
    const metadata = attributes.get("data-core-metadata") ?? attributes.get("data-dist-info-metadata");
    const yanked = attributes.get("data-yanked");
    return {
      filename: text.trim() || (url.pathname.split("/").at(-1) ?? ""),
      url,
      hashes,
      requiresPython: attributes.get("data-requires-python"),
      yanked: yanked === undefined ? false : yanked || true,
      coreMetadata: metadata === undefined ? false : (toHashes(metadata) ?? metadata !== "false"),
      size: undefined,
      uploadTime: undefined,
    };
  });
}

interface Tag {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  /** Up to the next tag. */
  readonly text: string;
}

/** The anchors and the base of a page. What a tag was read to is read by no other, or a long page would take for ever. */
function readTags(body: string): Tag[] {
  const tags: Tag[] = [];
  const begin = /<(a|base)(?=[\s/>])/gi;
  const attribute = /[\s/]*([^\s"'<>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>=]+)))?/y;
  const end = /[\s/]*>([^<]*)/y;
  for (let found = begin.exec(body); found !== null; found = begin.exec(body)) {
    const attributes = new Map<string, string>();
    let position = begin.lastIndex;
    const next = (pattern: RegExp) => {
      pattern.lastIndex = position;
      const match = pattern.exec(body);
      position = match === null ? position : pattern.lastIndex;
      return match;
    };
    for (let match = next(attribute); match !== null; match = next(attribute)) {
      const [, name = "", quoted, apostrophed, bare] = match;
      attributes.set(name.toLowerCase(), decodeEntities(quoted ?? apostrophed ?? bare ?? ""));
    }
    const text = next(end)?.[1];
    if (text !== undefined) tags.push({ name: (found[1] ?? "").toLowerCase(), attributes, text: decodeEntities(text) });
    begin.lastIndex = position;
  }
  return tags;
}

function decodeEntities(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(\w{1,32}));/gi,
    (whole, decimal?: string, hex?: string, name?: string) => {
      if (name !== undefined) return ENTITIES[name.toLowerCase()] ?? whole;
      const code = decimal !== undefined ? Number(decimal) : Number.parseInt(hex ?? "", 16);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

function toHashes(text: string): Record<string, string> | undefined {
  const match = /^(sha256|sha384|sha512|sha1|md5)=([0-9a-f]+)$/i.exec(text);
  return match?.[1] === undefined || match[2] === undefined
    ? undefined
    : { [match[1].toLowerCase()]: match[2].toLowerCase() };
}

function resolve(reference: string, base: URL): URL | undefined {
  return reference !== "" && URL.canParse(reference, base.href) ? new URL(reference, base) : undefined;
}

const FILENAME = /^[\w][\w.+!-]{0,250}$/;
const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

const HASHES = z.record(z.string(), z.string());
const METADATA = z.union([z.boolean(), HASHES]).nullish();
const PROJECT_PAGE = z.object({
  files: z.array(
    z.object({
      filename: z.string(),
      url: z.string(),
      hashes: HASHES,
      "requires-python": z.string().nullish(),
      yanked: z.union([z.boolean(), z.string()]).default(false),
      "core-metadata": METADATA,
      "dist-info-metadata": METADATA,
      size: z.number().nullish(),
      "upload-time": z.string().nullish(),
    }),
  ),
});
