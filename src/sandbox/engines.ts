import { DockerEngine, type DockerEngineOptions } from "./docker/docker-engine.ts";
import type { AdministeredEngine } from "./engine-admin.ts";

export type { DockerEngineOptions };

/** Connects to nothing yet: an engine that is down shows itself at the first call, and so does its return. */
export function createDockerEngine(options: DockerEngineOptions): AdministeredEngine {
  return new DockerEngine(options);
}
