import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { IpyboxError } from "../common/errors.ts";

export interface TlsMaterial {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Where an engine's API is. `address` is for people. */
export type EngineEndpoint =
  | { readonly type: "socket"; readonly address: string; readonly path: string }
  | {
      readonly type: "tcp";
      readonly address: string;
      readonly host: string;
      readonly port: number;
      readonly tls: TlsMaterial | undefined;
    };

type Environment = Readonly<Record<string, string | undefined>>;

/** Finds the engine as the docker CLI does: `DOCKER_HOST`, else `DOCKER_CONTEXT`, else the current context, else the default socket. */
export function resolveEndpoint(env: Environment): EngineEndpoint {
  const host = env["DOCKER_HOST"];
  if (host) return parseHost(host, () => tlsFromEnvironment(env));

  const configDirectory = env["DOCKER_CONFIG"] ?? join(homedir(), ".docker");
  const context = env["DOCKER_CONTEXT"] ?? currentContext(configDirectory);
  if (context && context !== "default") return contextEndpoint(configDirectory, context);

  const desktopSocket = join(homedir(), ".docker", "run", "docker.sock");
  return socketEndpoint(existsSync(desktopSocket) ? desktopSocket : "/var/run/docker.sock");
}

function parseHost(host: string, tls: () => TlsMaterial | undefined): EngineEndpoint {
  if (host.startsWith("unix://")) return socketEndpoint(host.slice("unix://".length) || "/var/run/docker.sock");
  if (host.startsWith("npipe://")) return socketEndpoint(host.slice("npipe://".length));
  const url = URL.canParse(host) ? new URL(host) : undefined;
  if (url?.hostname && ["tcp:", "http:", "https:"].includes(url.protocol)) {
    const material = tls();
    return {
      type: "tcp",
      address: host,
      host: url.hostname,
      port: Number(url.port) || (material ? 2376 : 2375),
      tls: material,
    };
  }
  throw new IpyboxError("invalid-configuration", `The engine's address is of an unknown kind: ${host}`, {
    hint: "Set DOCKER_HOST to unix:///path/to/docker.sock or tcp://host:port. An engine behind SSH: forward its socket with ssh -nNT -L /path/to/docker.sock:/var/run/docker.sock HOST.",
  });
}

function socketEndpoint(path: string): EngineEndpoint {
  return { type: "socket", address: `unix://${path}`, path };
}

function tlsFromEnvironment(env: Environment): TlsMaterial | undefined {
  const directory = env["DOCKER_CERT_PATH"];
  return env["DOCKER_TLS_VERIFY"] && directory ? readTls(directory) : undefined;
}

function readTls(directory: string): TlsMaterial {
  const read = (name: string) => readFileSync(join(directory, name));
  return { ca: read("ca.pem"), cert: read("cert.pem"), key: read("key.pem") };
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

function contextEndpoint(configDirectory: string, name: string): EngineEndpoint {
  const id = createHash("sha256").update(name).digest("hex"); // how the docker CLI names a context's directory
  const tlsDirectory = join(configDirectory, "contexts", "tls", id, "docker");
  try {
    const text = readFileSync(join(configDirectory, "contexts", "meta", id, "meta.json"), "utf8");
    const host = contextSchema.parse(JSON.parse(text)).Endpoints.docker.Host;
    return parseHost(host, () => (existsSync(tlsDirectory) ? readTls(tlsDirectory) : undefined));
  } catch (cause) {
    if (cause instanceof IpyboxError) throw cause;
    throw new IpyboxError("invalid-configuration", `The docker context "${name}" can't be read`, {
      hint: "Check `docker context ls`, or set DOCKER_HOST.",
      cause,
    });
  }
}
