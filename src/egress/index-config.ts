import { readFileSync } from "node:fs";
import { join } from "node:path";
import { IpyboxError } from "../common/errors.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export interface IndexSources {
  /** `--index-url`. */
  readonly indexUrl: string | undefined;
  /** `--extra-index-url`. */
  readonly extraIndexUrls: readonly string[];
  readonly env: Environment;
  /** Home directory of the user: pip.conf and netrc are looked up there. */
  readonly home: string;
  /** Contents of a file, undefined when it can't be read; the file system by default. */
  readonly readFile?: (path: string) => string | undefined;
}

/** A package index as the host reaches it. Credentials never leave the host. */
export interface PackageIndex {
  /** Without credentials, with a trailing slash. */
  readonly url: URL;
  /** From the URL; netrc is asked besides. */
  readonly credentials: Credentials | undefined;
}

export interface Credentials {
  readonly user: string;
  readonly password: string;
}

const PYPI = "https://pypi.org/simple/";

/** The default index first, then the extra ones: from the options, else from pip's configuration, else PyPI. */
export function resolveIndexes(sources: IndexSources): PackageIndex[] {
  const pip = readPipConfiguration(sources);
  const indexUrl = sources.indexUrl ?? pip["index-url"] ?? PYPI;
  const extra = sources.extraIndexUrls.length > 0 ? sources.extraIndexUrls : words(pip["extra-index-url"]);
  return [indexUrl, ...extra].map(toIndex);
}

/** Files that hold CA certificates, by the variables and settings that users of Python tools and Node know. */
export function caBundlePaths(sources: Pick<IndexSources, "env" | "home" | "readFile">): string[] {
  const { env } = sources;
  const named = [
    env["NODE_EXTRA_CA_CERTS"],
    env["SSL_CERT_FILE"],
    env["REQUESTS_CA_BUNDLE"],
    readPipConfiguration(sources)["cert"],
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
  ];
  return [...new Set(named.filter((path): path is string => path !== undefined && path !== ""))];
}

/** The entry of a netrc file for a host, its `default` entry otherwise. */
export function findNetrcCredentials(
  host: string,
  sources: Pick<IndexSources, "env" | "home" | "readFile">,
): Credentials | undefined {
  const read = sources.readFile ?? readText;
  const text = sources.env["NETRC"] ? read(sources.env["NETRC"]) : read(join(sources.home, ".netrc"));
  const tokens = (text ?? "").replace(/^\s*#.*$/gm, "").split(/\s+/);
  let applies = false;
  let user = "";
  for (const [at, token] of tokens.entries()) {
    const value = tokens[at + 1] ?? "";
    if (token === "machine") applies = value === host;
    else if (token === "default") applies = true;
    else if (token === "login" && applies) user = value;
    else if (token === "password" && applies) return { user, password: value };
  }
  return undefined;
}

/** What tells an index who asks, at one of its URLs: its own credentials at its own origin, else those of netrc. */
export function authorizationFor(
  url: URL,
  index: PackageIndex,
  netrc: (host: string) => Credentials | undefined,
): { readonly authorization?: string } {
  const own = url.origin === index.url.origin ? index.credentials : undefined;
  const credentials = own !== undefined && own.password !== "" ? own : (netrc(url.hostname) ?? own);
  if (credentials === undefined) return {};
  const { user, password } = credentials;
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}` };
}

/** pip's own order: global file, user's file, that of the virtual environment, `PIP_CONFIG_FILE`, variables. */
function readPipConfiguration(
  sources: Pick<IndexSources, "env" | "home" | "readFile">,
): Readonly<Record<string, string>> {
  const { env, home } = sources;
  const read = sources.readFile ?? readText;
  const files = [
    ...(env["XDG_CONFIG_DIRS"] ?? "/etc/xdg").split(":").map((directory) => join(directory, "pip/pip.conf")),
    "/etc/pip.conf",
    join(home, ".pip/pip.conf"),
    join(env["XDG_CONFIG_HOME"] ?? join(home, ".config"), "pip/pip.conf"),
    join(home, "Library/Application Support/pip/pip.conf"),
    ...(env["VIRTUAL_ENV"] ? [join(env["VIRTUAL_ENV"], "pip.conf")] : []),
  ];
  if (env["PIP_CONFIG_FILE"] === "/dev/null") files.splice(0);
  else if (env["PIP_CONFIG_FILE"]) files.push(env["PIP_CONFIG_FILE"]);
  const parsed = files.map((path) => parseIni(read(path) ?? ""));
  const settings: Record<string, string> = {};
  for (const section of ["global", "install"]) {
    for (const file of parsed) Object.assign(settings, file[section]);
  }
  for (const name of ["index-url", "extra-index-url", "cert"]) {
    const value = env[`PIP_${name.toUpperCase().replaceAll("-", "_")}`];
    if (value) settings[name] = value;
  }
  return settings;
}

/** Python's configparser as far as pip.conf needs it: sections, `key = value`, values continued on indented lines. */
function parseIni(text: string): Record<string, Record<string, string>> {
  const sections: Record<string, Record<string, string>> = {};
  let section: Record<string, string> = {};
  let key: string | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const header = /^\[([^\]]+)\]/.exec(line)?.[1];
    const pair = /^([^\s=:][^=:]*?)\s*[=:]\s*(.*)$/.exec(line);
    if (header !== undefined) {
      section = sections[header] ??= {};
      key = undefined;
    } else if (/^\s/.test(line) && key !== undefined) {
      section[key] = `${section[key] ?? ""} ${line.trim()}`.trim();
    } else if (pair?.[1] !== undefined) {
      key = pair[1].toLowerCase().replaceAll("_", "-");
      section[key] = pair[2]?.trim() ?? "";
    }
  }
  return sections;
}

function toIndex(text: string): PackageIndex {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== "https:" && url?.protocol !== "http:") {
    throw new IpyboxError(
      "invalid-configuration",
      `package index '${text.replace(/\/\/[^@/]*@/, "//")}' is no http(s) URL`,
      {
        hint: "Correct --index-url, --extra-index-url or pip's configuration",
      },
    );
  }
  const credentials =
    url.username === "" && url.password === ""
      ? undefined
      : { user: decodeURIComponent(url.username), password: decodeURIComponent(url.password) };
  url.username = "";
  url.password = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return { url, credentials };
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}

/** The default of {@link IndexSources}' `readFile`. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // absent files are the rule
  }
}
