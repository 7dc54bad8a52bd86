import { IpyboxError, systemCodeOf } from "../../common/errors.ts";
import { resolveEndpoint } from "../engine-endpoint.ts";
import { EngineApi } from "./engine-api.ts";
import { EngineHttp, EngineRefusal } from "./engine-http.ts";

/** The engine's API and where it is, with the engine's failures as errors of ours. */
export interface DockerClient {
  readonly api: EngineApi;
  readonly address: string;
  /** Awaits a request of `api`; its failure becomes `engine-unreachable` or `engine-error`. */
  ask<T>(request: Promise<T>): Promise<T>;
  /** Like `ask`, but undefined when the engine knows no such object. */
  find<T>(request: Promise<T>): Promise<T | undefined>;
}

/** Makes no connection yet. */
export function createDockerClient(env: Readonly<Record<string, string | undefined>>): DockerClient {
  const endpoint = resolveEndpoint(env);
  const api = new EngineApi(new EngineHttp(endpoint, env));
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
  return error instanceof EngineRefusal ? error.statusCode : undefined;
}

function toEngineError(error: unknown, address: string): unknown {
  if (error instanceof EngineRefusal) {
    return new IpyboxError("engine-error", `The container engine refused a request: ${error.message}`, {
      hint: "Run `ipybox doctor`, which checks the engine, and look at the engine's own log.",
      cause: error,
    });
  }
  const code = error instanceof IpyboxError ? undefined : systemCodeOf(error);
  if (code === undefined) return error; // told already, a bug of ours, or the caller's abort
  const denied = code === "EACCES" || code === "EPERM";
  const distrusted = /CERT|SSL|TLS|ISSUER|SIGNATURE/.test(code);
  return new IpyboxError(
    "engine-unreachable",
    denied
      ? `This user may not use the container engine at ${address}`
      : `The container engine does not answer at ${address} (${code})`,
    {
      hint: denied
        ? "Add the user to the group docker (sudo usermod -aG docker $USER) and log in again, or use rootless Docker."
        : distrusted
          ? "Check the certificates (ca.pem, cert.pem, key.pem) in DOCKER_CERT_PATH, or those of the docker context."
          : "Install and start Docker (`docker info` must work), or point DOCKER_HOST at an engine; then call again.",
      cause: error,
    },
  );
}
