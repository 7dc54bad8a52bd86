import { Agent } from "node:http";
import { Agent as TlsAgent } from "node:https";
import Docker from "dockerode";
import { IpyboxError, messageOf, systemCodeOf } from "../../common/errors.ts";
import { type EngineEndpoint, resolveEndpoint } from "../engine-endpoint.ts";

/** dockerode and the endpoint it talks to, with the engine's failures as errors of ours. */
export interface DockerClient {
  readonly api: Docker;
  readonly address: string;
  /** Awaits a request of `api`; its failure becomes `engine-unreachable` or `engine-error`. */
  ask<T>(request: Promise<T>): Promise<T>;
  /** Like `ask`, but undefined when the engine knows no such object. */
  find<T>(request: Promise<T>): Promise<T | undefined>;
}

/** Makes no connection yet. Each request opens its own, so nothing dead is left after the engine restarted. */
export function createDockerClient(env: Readonly<Record<string, string | undefined>>): DockerClient {
  const endpoint = resolveEndpoint(env);
  const api = new Docker(toModemOptions(endpoint));
  const ask = async <T>(request: Promise<T>): Promise<T> => {
    try {
      return await request;
    } catch (error) {
      throw toEngineError(error, endpoint.address);
    }
  };
  return {
    api,
    address: endpoint.address,
    ask,
    find: (request) =>
      ask(request.catch((error: unknown) => (statusOf(error) === 404 ? undefined : Promise.reject(error as Error)))),
  };
}

/** HTTP status with which the engine refused a request; undefined when it was no refusal. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof IpyboxError) return statusOf(error.cause);
  return error instanceof Error && "statusCode" in error && typeof error.statusCode === "number"
    ? error.statusCode
    : undefined;
}

function toModemOptions(endpoint: EngineEndpoint): Docker.DockerOptions & { agent: Agent } {
  switch (endpoint.type) {
    case "socket":
      return { socketPath: endpoint.path, host: undefined, agent: new Agent({ keepAlive: false }) };
    case "tcp":
      return {
        socketPath: undefined,
        host: endpoint.host,
        port: endpoint.port,
        protocol: endpoint.tls ? "https" : "http",
        ...endpoint.tls,
        agent: endpoint.tls ? new TlsAgent({ keepAlive: false }) : new Agent({ keepAlive: false }),
      };
  }
}

function toEngineError(error: unknown, address: string): unknown {
  if (statusOf(error) !== undefined) {
    return new IpyboxError("engine-error", `The container engine refused a request: ${refusalOf(error)}`, {
      cause: error,
    });
  }
  const code = systemCodeOf(error);
  if (code === undefined) return error; // a bug of ours, or the caller's abort
  const denied = code === "EACCES" || code === "EPERM";
  return new IpyboxError(
    "engine-unreachable",
    denied
      ? `This user may not use the container engine at ${address}`
      : `The container engine does not answer at ${address} (${code})`,
    {
      hint: denied
        ? "Add the user to the group docker (sudo usermod -aG docker $USER) and log in again, or use rootless Docker."
        : "Install and start Docker (`docker info` must work), or point DOCKER_HOST at an engine; then call again.",
      cause: error,
    },
  );
}

/** The engine's own words, without dockerode's frame around them. */
function refusalOf(error: unknown): string {
  const json = error instanceof Error && "json" in error ? error.json : undefined;
  const message = typeof json === "object" && json !== null && "message" in json ? json.message : undefined;
  return typeof message === "string" ? message : messageOf(error).trim();
}
