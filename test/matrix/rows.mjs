// The rows of the matrix: `tests` are files below test/, `env` what they are given, `start` what makes an engine for them.
import {
  enterContainerWithSocket,
  installSsh,
  startGVisor,
  startNestedDaemon,
  startPodman,
  startRootlessDocker,
  startRootlessPodman,
} from "./engines.mjs";

const CONTRACT = ["contract/engine/docker-socket", "contract/engine/docker-exec"];
const SESSIONS = ["cells", "environment", "mcp-servers", "packages", "registration", "stopping"].map(
  (name) => `e2e/${name}`,
);
/** What holds of containers: masks, a way out by the host alone, and what the commands that look after sandboxes say. */
const CONTAINERS = ["shields", "egress", "two-servers", "lifecycle"].map((name) => `e2e/${name}`);
/** Ten thousand cells and hundreds of megabytes: for engines and links that pass output on in another way. */
const OUTPUT = "e2e/output";
const WHOLE = [...CONTRACT, ...SESSIONS, ...CONTAINERS];

export const ROWS = [
  {
    name: "docker, socket link",
    tests: [CONTRACT[0], ...SESSIONS, ...CONTAINERS, OUTPUT],
    env: { IPYBOX_LINK: "socket" },
  },
  {
    name: "docker, exec link",
    tests: [CONTRACT[1], "e2e/exec-link", ...SESSIONS, ...CONTAINERS, OUTPUT],
    env: { IPYBOX_LINK: "exec" },
  },
  { name: "podman, rootful", tests: WHOLE, start: startPodman },
  { name: "podman, rootless", tests: WHOLE, start: startRootlessPodman },
  { name: "docker, rootless", tests: WHOLE, start: startRootlessDocker },
  { name: "gVisor (--runtime runsc)", tests: WHOLE, start: startGVisor },
  { name: "nested daemon (docker-in-docker)", tests: WHOLE, start: startNestedDaemon },
  { name: "mounted socket, in a container", tests: WHOLE, start: enterContainerWithSocket },
  { name: "CI examples: runner, mounted socket, nested daemon with TLS", tests: ["matrix/ci-examples"] },
  { name: "engine on TCP, with TLS", tests: ["matrix/tcp-tls"] },
  { name: "engine of another machine, over ssh", tests: ["matrix/ssh"], start: installSsh },
  { name: "engine without our files (copied workspace)", tests: ["e2e/copied-workspace"] },
  {
    name: "all-in-one image, also with the engine's socket",
    tests: ["e2e/all-in-one", "attempts/all-in-one"],
  },
  {
    name: "sandbox-runtime (--sandbox srt)",
    tests: ["contract/engine/srt", "attempts/srt", ...SESSIONS, OUTPUT],
    env: { IPYBOX_SANDBOX: "srt" },
  },
  {
    name: "no container (--sandbox none)",
    tests: ["contract/engine/none", ...SESSIONS, OUTPUT],
    env: { IPYBOX_SANDBOX: "none" },
  },
  { name: "Claude Code plugin, other clients", tests: ["e2e/plugin", "e2e/clients"] },
];
