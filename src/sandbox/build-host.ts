import { readFile } from "node:fs/promises";
import { rootCertificates } from "node:tls";

type Environment = Readonly<Record<string, string | undefined>>;

/** Where systems keep the certificates they trust: Debian and derivatives, Fedora, openSUSE, Alpine and macOS. */
const SYSTEM_BUNDLES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];
const CA_VARIABLES = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"];
const PROXY_VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

export interface CaBundle {
  readonly pem: string;
  /** The files it was put together from. */
  readonly sources: readonly string[];
  /** Files that a variable names but that can't be read. */
  readonly unreadable: readonly string[];
}

/** Everything this host trusts: its system bundle (else Node's own) and what the usual variables add. */
export async function readCaBundle(env: Environment): Promise<CaBundle> {
  const system = await firstReadable(SYSTEM_BUNDLES);
  const parts = [system?.text ?? rootCertificates.join("\n")];
  const sources = [system?.path ?? "Node's built-in certificates"];
  const unreadable: string[] = [];
  for (const name of CA_VARIABLES) {
    const path = env[name];
    if (!path || sources.includes(path) || unreadable.includes(path)) continue;
    const text = await readOrUndefined(path);
    if (text === undefined) unreadable.push(path);
    else if (!parts.includes(text)) {
      parts.push(text);
      sources.push(path);
    }
  }
  return { pem: `${parts.map((part) => part.trim()).join("\n")}\n`, sources, unreadable };
}

/** The host's proxies under the names that builders know without an ARG and keep out of the image's history. */
export function proxyArguments(env: Environment): Record<string, string> {
  const names = PROXY_VARIABLES.flatMap((name) => [name, name.toLowerCase()]);
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = env[name];
      return value ? [[name, value]] : [];
    }),
  );
}

async function firstReadable(paths: readonly string[]): Promise<{ path: string; text: string } | undefined> {
  for (const path of paths) {
    const text = await readOrUndefined(path);
    if (text !== undefined) return { path, text };
  }
  return undefined;
}

async function readOrUndefined(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return undefined;
  }
}
