import { isAbsolute, relative, resolve, sep } from "node:path";
import { domainToASCII } from "node:url";
import { isIP } from "node:net";
import { IpyboxError } from "../common/errors.ts";

/** What `install_package` was asked for, checked. `text` is what the installer hands to uv. */
export type Requirement =
  /** From the configured indexes. */
  | { readonly kind: "index"; readonly text: string; readonly name: string }
  /** `name @ https://…` or a bare URL of an archive. */
  | { readonly kind: "url"; readonly text: string; readonly host: string; readonly port: number }
  | { readonly kind: "git"; readonly text: string; readonly host: string; readonly port: number }
  /** A wheel, source archive or directory in the workspace; `text` is its path in it: `./…`. */
  | { readonly kind: "local"; readonly text: string };

export interface RequirementOptions {
  /** Real path of the workspace: local paths are relative to it and lie in it. */
  readonly workspace: string;
  /** What the workspace is called in sandboxes, besides its own path; undefined where that is all. */
  readonly innerPath?: string | undefined;
  /** Hosts that need not be public ones (`--allow-private`). */
  readonly admitsPrivate: (host: string, port: number) => boolean;
}

/**
 * Checks one requirement: PEP 508 (name, extras, versions, markers, `name @ URL`), `git+https://…`, or a path in the
 * workspace. Options, several packages, control characters and other schemes are refused with `invalid-requirement`.
 * Pure: whether hosts and files exist is for the installer to find out.
 */
export function parseRequirement(input: string, options: RequirementOptions): Requirement {
  const text = input.trim();
  if (text === "") throw refusal(input, "it is empty");
  if (text.length > MAX_CHARACTERS)
    throw refusal(`${text.slice(0, 50)}…`, `it has more than ${MAX_CHARACTERS} characters`);
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text))
    throw refusal(text.replace(/\p{C}/gu, "?"), "it contains control characters");
  if (text.startsWith("-")) throw refusal(text, "options are not admitted");
  if (/\s-/.test(text.replace(MARKER, ""))) throw refusal(text, "options are not admitted");
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || /^file:/i.test(text)) return fromUrl(text, text, options);
  if (isPath(text)) return fromPath(text, options);
  return fromPep508(text, options);
}

/** As --allow-domain and --allow-private take it. */
export function toRule({ host, port }: { readonly host: string; readonly port: number }): string {
  return port === 443 ? host : `${host}:${port}`;
}

function fromPep508(text: string, options: RequirementOptions): Requirement {
  const match = PEP_508.exec(text);
  const name = match?.groups?.["name"];
  const url = match?.groups?.["url"];
  if (name === undefined) {
    const several = text.split(/[\s,]+/).every((word) => /^[A-Za-z0-9]/.test(word)) && /[\s,]/.test(text);
    throw refusal(text, several ? "it names several packages" : "it is no PEP 508 requirement");
  }
  return url === undefined ? { kind: "index", text, name } : fromUrl(url, text, options);
}

function fromUrl(address: string, text: string, { admitsPrivate }: RequirementOptions): Requirement {
  const git = /^git\+/i.test(address);
  const plain = git ? address.slice(4) : address;
  const url = URL.canParse(plain) ? new URL(plain) : undefined;
  if (url?.protocol !== "https:") throw refusal(text, "only https:// and git+https:// URLs are admitted");
  if (url.username !== "" || url.password !== "")
    throw refusal(text.replace(/\/\/[^@/]*@/, "//"), "the URL has credentials");
  if (/\s/.test(plain)) throw refusal(text, "the URL contains white space");
  const host = url.hostname.replace(/\.$/, "");
  const port = url.port === "" ? 443 : Number(url.port);
  if (!isPublicName(host) && !admitsPrivate(host, port)) {
    throw refusal(text, `${host} is no public host name, and no --allow-private names it`);
  }
  return { kind: git ? "git" : "url", text, host, port };
}

function isPublicName(host: string): boolean {
  const isAddress = isIP(host.replace(/^\[|\]$/g, "")) !== 0;
  return !isAddress && host.includes(".") && domainToASCII(host) !== "" && !LOCAL_SUFFIX.test(host);
}

function isPath(text: string): boolean {
  return (
    /^\.{0,2}\//.test(text) || text === "." || text === ".." || /^[^\s;@]+\.(whl|tar\.gz|zip)(\[[^\]]*\])?$/i.test(text)
  );
}

function fromPath(text: string, { workspace, innerPath }: RequirementOptions): Requirement {
  const ofHost = relative(workspace, resolve(workspace, text));
  const isInner = innerPath !== undefined && leadsOut(ofHost) && text.startsWith(innerPath);
  const inside = isInner ? relative(innerPath, resolve(text)) : ofHost;
  if (leadsOut(inside)) throw refusal(text, "the path lies outside the workspace");
  return { kind: "local", text: `./${inside.replaceAll(sep, "/")}` }; // the workspace has another path in some sandboxes
}

function leadsOut(path: string): boolean {
  return path === ".." || path.startsWith(`..${sep}`) || isAbsolute(path);
}

function refusal(text: string, reason: string): IpyboxError {
  return new IpyboxError("invalid-requirement", `'${text}' can't be installed: ${reason}`, {
    hint: "Give one package, such as numpy, 'numpy>=2', 'requests[socks]', git+https://host/repository, or a path in the workspace",
  });
}

const MAX_CHARACTERS = 2000;
const MARKER = /;.*$/;
const LOCAL_SUFFIX = /\.(localhost|local|internal|home\.arpa|lan|intranet)$/;

const IDENTIFIER = "[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?";
const VERSION_CLAUSE = "\\s*(?:===|==|~=|!=|<=|>=|<|>)\\s*[A-Za-z0-9_.*+!-]+\\s*";
const VERSIONS = `${VERSION_CLAUSE}(?:,${VERSION_CLAUSE})*`;
/** Whole words: had a run of letters or signs two readings, a long one would have more than anybody lives to try. */
const MARKER_WORD = "(?:'[^']*'|\"[^\"]*\"|[a-z_]+(?![a-z_])|(?:===|==|~=|!=|<=|>=|<|>)(?![=<>])|[()])";
/** The grammar of PEP 508; the marker's is left to uv beyond its words. */
const PEP_508 = new RegExp(
  `^(?<name>${IDENTIFIER})\\s*(?:\\[\\s*(?:${IDENTIFIER}(?:\\s*,\\s*${IDENTIFIER})*)?\\s*\\])?` +
    `(?:\\s*@\\s*(?<url>\\S+)|\\s*\\(${VERSIONS}\\)|${VERSIONS})?` +
    `\\s*(?:;(?:\\s*${MARKER_WORD})+\\s*)?$`,
);
