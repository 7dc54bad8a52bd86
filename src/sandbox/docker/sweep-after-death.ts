import { programFile } from "../../common/package-files.ts";
import type { AfterDeath } from "../link/run-directory.ts";

const ENGINE_VARIABLES = [
  "HOME",
  "PATH", // ssh, which may lead to the engine, and its agent
  "SSH_AUTH_SOCK",
  "XDG_RUNTIME_DIR",
  "DOCKER_HOST",
  "DOCKER_CONTEXT",
  "DOCKER_CONFIG",
  "DOCKER_CERT_PATH",
  "DOCKER_TLS_VERIFY",
];

/**
 * What a server that was killed can't do itself: a container that its last request created, and nobody started, has
 * no lifeline that would end it.
 */
export function sweepAfterDeath(env: Readonly<Record<string, string | undefined>>): AfterDeath {
  const engine = ENGINE_VARIABLES.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]] as const]));
  return {
    command: [process.execPath, "--", programFile("sandbox/docker/sweep-dead-owners")],
    env: Object.fromEntries(engine),
  };
}
