import { DockerEngine, type DockerEngineOptions } from "./docker/docker-engine.ts";
import type { AdministeredEngine } from "./engine-admin.ts";
import { NO_CONFINEMENT, OTHER_USER } from "./local/confinement.ts";
import { SrtConfinement, type SrtOptions } from "./local/srt-confinement.ts";
import { LocalEngine, type LocalEngineOptions } from "./local/local-engine.ts";

export type { DockerEngineOptions, LocalEngineOptions };

/** Connects to nothing yet: an engine that is down shows itself at the first call, and so does its return. */
export function createDockerEngine(options: DockerEngineOptions): AdministeredEngine {
  return new DockerEngine(options);
}

export { parseSettings as parseSrtSettings, type SrtSettings } from "./local/srt-settings.ts";

/** Sandboxes as processes of this host, behind Anthropic's sandbox-runtime. */
export function createSrtEngine({
  srt,
  ...options
}: LocalEngineOptions & { readonly srt: SrtOptions }): AdministeredEngine {
  return new LocalEngine({ ...options, confinement: new SrtConfinement(srt) });
}

/** Sandboxes as processes of this host, without walls but for those of the all-in-one image. */
export function createLocalEngine(options: LocalEngineOptions): AdministeredEngine {
  return new LocalEngine({ ...options, confinement: options.noInet === true ? OTHER_USER : NO_CONFINEMENT });
}
