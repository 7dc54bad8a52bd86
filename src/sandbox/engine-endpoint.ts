import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, posix } from "node:path";
import { z } from "zod";
import { IpyboxError, messageOf } from "../common/errors.ts";

/** Certificates for TLS, PEM. Without `ca` the system's authorities count; without `cert` and `key` the engine asks for none. */
export interface TlsMaterial {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** Where an engine's API is. `address` is for people; `socket` is a named pipe on Windows. */
export type EngineEndpoint =
  | { readonly type: "socket"; readonly address: string; readonly path: string }
  | {
      readonly type: "tcp";
      readonly address: string;
      readonly host: string;
      readonly port: number;
      readonly tls: TlsMaterial | undefined;
    }
  /** `args` are those of the `ssh` command. */
  | { readonly type: "ssh"; readonly address: string; readonly args: readonly string[] };

type Environment = Readonly<Record<string, string | undefined>>;

/** What the default address depends on. */
export interface EngineHost {
  readonly platform: NodeJS.Platform;
  readonly home: string;
}

const WINDOWS_PIPE = "//./pipe/docker_engine";
const SYSTEM_SOCKET = "/var/run/docker.sock";

/**
 * Finds the engine as the docker CLI does: `DOCKER_HOST`, else `DOCKER_CONTEXT`, else the current context; else the first
 * of {@link defaultSockets} that this user may use.
 *
 * @throws IpyboxError `invalid-configuration` for an address, a context or certificates that can't be used.
 */
export function resolveEndpoint(
  variables: Environment,
  host: EngineHost = { platform: process.platform, home: homedir() },
): EngineEndpoint {
  const env = withoutEmpty(variables);
  const configDirectory = env["DOCKER_CONFIG"] ?? join(host.home, ".docker");
  const address = env["DOCKER_HOST"];
  if (address) return parseHost(address, host, () => tlsFromEnvironment(env, configDirectory));

  const context = env["DOCKER_CONTEXT"] ?? currentContext(configDirectory);
  if (context && context !== "default") return contextEndpoint(configDirectory, context, host);

  const sockets = defaultSockets(env, host);
  const found = sockets.find(isUsable) ?? sockets.find((path) => existsSync(path)) ?? sockets[0];
  return socketEndpoint(found);
}

/**
 * Where engines listen that nobody named, most likely first: the system's, then Docker Desktop's, rootless Docker's and
 * Podman's of this user, then Podman's of the system.
 */
export function defaultSockets(env: Environment, { platform, home }: EngineHost): [string, ...string[]] {
  if (platform === "win32") return [WINDOWS_PIPE];
  if (platform === "darwin") return [posix.join(home, ".docker/run/docker.sock"), SYSTEM_SOCKET];
  const runtime = env["XDG_RUNTIME_DIR"];
  const ofUser = runtime ? [posix.join(runtime, "docker.sock"), posix.join(runtime, "podman/podman.sock")] : [];
  return [SYSTEM_SOCKET, posix.join(home, ".docker/desktop/docker.sock"), ...ofUser, "/run/podman/podman.sock"];
}

/** The docker CLI takes an empty variable for one that is not set. */
function withoutEmpty(variables: Environment): Environment {
  return Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== ""));
}

function isUsable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function parseHost(address: string, { platform }: EngineHost, tls: () => TlsMaterial | undefined): EngineEndpoint {
  if (address.startsWith("unix://")) return socketEndpoint(address.slice("unix://".length) || SYSTEM_SOCKET);
  if (address.startsWith("npipe://") && platform === "win32")
    return socketEndpoint(address.slice("npipe://".length) || WINDOWS_PIPE);
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url?.hostname && ["tcp:", "http:", "https:"].includes(url.protocol)) {
    const material = tls() ?? (url.protocol === "https:" ? {} : undefined);
    const host = url.hostname.replace(/^\[(.*)\]$/, "$1"); // IPv6
    return { type: "tcp", address, host, port: Number(url.port) || (material ? 2376 : 2375), tls: material };
  }
  const ssh = url?.protocol === "ssh:" ? sshArguments(url) : undefined;
  if (ssh) return { type: "ssh", address, args: ssh };
  if (address.startsWith("npipe://")) {
    // In WSL, where Docker Desktop shares the contexts of Windows.
    throw new IpyboxError("invalid-configuration", `The engine's address is a pipe of Windows: ${address}`, {
      hint: "`docker context use default` here, or set DOCKER_HOST to unix:///path/to/docker.sock.",
    });
  }
  throw new IpyboxError("invalid-configuration", `The engine's address is of an unknown kind: ${address}`, {
    hint: "Set DOCKER_HOST to unix:///path/to/docker.sock, tcp://host:port or ssh://user@host.",
  });
}

/** As the docker CLI calls it; a path is that of the engine's socket there. Undefined where the address has other parts. */
function sshArguments({ hostname, username, password, port, pathname, search, hash }: URL): string[] | undefined {
  const host = decodeURIComponent(hostname).replace(/^\[(.*)\]$/, "$1"); // IPv6
  const user = decodeURIComponent(username);
  const socket = pathname === "/" ? "" : pathname;
  const isPlain = host !== "" && !host.startsWith("-") && /^(?:\/[\w.-]+)*$/.test(socket);
  if (!isPlain || `${password}${search}${hash}` !== "") return undefined;
  return [
    ...["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"],
    ...(user === "" ? [] : ["-l", user]),
    ...(port === "" ? [] : ["-p", port]),
    ...["--", host, "docker", ...(socket === "" ? [] : ["--host", `unix://${socket}`]), "system", "dial-stdio"],
  ];
}

function socketEndpoint(path: string): EngineEndpoint {
  const isPipe = /^[\\/]{2}\.[\\/]pipe[\\/]/.test(path);
  return { type: "socket", address: `${isPipe ? "npipe" : "unix"}://${path}`, path };
}

/** As the docker CLI: certificates beside its configuration where `DOCKER_CERT_PATH` does not say otherwise. */
function tlsFromEnvironment(env: Environment, configDirectory: string): TlsMaterial | undefined {
  return env["DOCKER_TLS_VERIFY"] ? readTls(env["DOCKER_CERT_PATH"] ?? configDirectory) : undefined;
}

function readTls(directory: string): TlsMaterial {
  const files = { ca: "ca.pem", cert: "cert.pem", key: "key.pem" };
  try {
    const found = Object.entries(files).filter(([, name]) => existsSync(join(directory, name)));
    return Object.fromEntries(found.map(([part, name]) => [part, readFileSync(join(directory, name))]));
  } catch (cause) {
    throw new IpyboxError("invalid-configuration", `The engine's certificates can't be read: ${messageOf(cause)}`, {
      hint: "Check DOCKER_CERT_PATH, or the docker context.",
      cause,
    });
  }
}

const configSchema = z.object({ currentContext: z.string().optional() });
const contextSchema = z.object({ Endpoints: z.object({ docker: z.object({ Host: z.string() }) }) });

function currentContext(configDirectory: string): string | undefined {
  const path = join(configDirectory, "config.json");
  if (!existsSync(path)) return undefined;
  try {
    return configSchema.parse(JSON.parse(readFileSync(path, "utf8"))).currentContext;
  } catch {
    return undefined; // an unreadable file is the docker CLI's matter; the default socket is the best guess
  }
}

function contextEndpoint(configDirectory: string, name: string, engineHost: EngineHost): EngineEndpoint {
  const id = createHash("sha256").update(name).digest("hex"); // how the docker CLI names a context's directory
  const tlsDirectory = join(configDirectory, "contexts", "tls", id, "docker");
  try {
    const text = readFileSync(join(configDirectory, "contexts", "meta", id, "meta.json"), "utf8");
    const host = contextSchema.parse(JSON.parse(text)).Endpoints.docker.Host;
    return parseHost(host, engineHost, () => (existsSync(tlsDirectory) ? readTls(tlsDirectory) : undefined));
  } catch (cause) {
    if (cause instanceof IpyboxError) throw cause;
    throw new IpyboxError("invalid-configuration", `The docker context "${name}" can't be read`, {
      hint: "Check `docker context ls`, or set DOCKER_HOST.",
      cause,
    });
  }
}
