// How each engine is started here, with data of its own. Resolves to the variables that lead to it.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { install, ROOT, run, Unavailable } from "./place.mjs";

const CONTRACT_UID = 1000;
/** These engines reach nothing to build images from. */
const WITHOUT_BUILDS = { TEST_WITHOUT_BUILDS: "1" };
const CI_IMAGE = "ipybox-test:ci";

/** Rootful, or of the place's user. */
export async function startPodman(place) {
  install(["podman", "runc", "uidmap", "slirp4netns", "fuse-overlayfs"]);
  const env = {
    CONTAINERS_CONF: place.at("containers.conf"),
    CONTAINERS_STORAGE_CONF: place.at("storage.conf"),
    XDG_RUNTIME_DIR: place.makeDirectory("runtime"),
  };
  // What root may not raise, as in many a container, an engine's containers can't have: no limit above our own.
  const limit = run("sh", ["-c", "ulimit -Hn"]).stdout.trim();
  writeFileSync(
    env.CONTAINERS_CONF,
    `[containers]\ndefault_ulimits = ["nofile=${limit}:${limit}", "nproc=16384:16384"]\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n`,
  );
  writeFileSync(
    env.CONTAINERS_STORAGE_CONF,
    `[storage]\ndriver = "overlay"\ngraphroot = "${place.at("images")}"\nrunroot = "${place.at("containers")}"\n`,
  );
  const address = await place.startEngine(env, (socket) => ["podman", "system", "service", "--time=0", socket]);
  place.giveImages(address, place.user === undefined ? [0, CONTRACT_UID] : [place.user.uid]);
  return { DOCKER_HOST: address, ...WITHOUT_BUILDS, ...(place.user && { ...env, ...rootlessLimits() }) };
}

export async function startRootlessPodman(place) {
  place.addUser();
  return await startPodman(place);
}

export async function startRootlessDocker(place) {
  install(["docker.io", "rootlesskit", "slirp4netns", "uidmap"]);
  const script = "/usr/share/docker.io/contrib/dockerd-rootless.sh";
  if (!existsSync(script)) throw new Unavailable(`there is no ${script}`);
  place.addUser();
  const env = {
    XDG_RUNTIME_DIR: place.makeDirectory("runtime"),
    DOCKERD_ROOTLESS_ROOTLESSKIT_NET: "host", // slirp4netns needs /dev/net/tun, which is not everywhere a user's
    DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER: "none",
  };
  const options = ["--iptables=false", "--bridge=none", "--data-root", place.makeDirectory("data")];
  const address = await place.startEngine(env, (socket) => ["sh", script, ...options, "--host", socket]);
  place.giveImages(address, [0]); // as which cells run there
  return { DOCKER_HOST: address, ...WITHOUT_BUILDS, XDG_RUNTIME_DIR: env.XDG_RUNTIME_DIR, ...rootlessLimits() };
}

/** Tells the tests that no limit of memory or processes is to be tried: on cgroup v1 rootless engines apply none. */
function rootlessLimits() {
  return existsSync("/sys/fs/cgroup/cgroup.controllers") ? {} : { TEST_WITHOUT_LIMITS: "1" };
}

export async function startGVisor(place) {
  install(["docker.io", "runsc"]);
  const runtimeArgs = ["--platform=ptrace", "--network=none", "--host-uds=open"];
  const config = { runtimes: { runsc: { path: "runsc", runtimeArgs } } };
  writeFileSync(place.at("daemon.json"), JSON.stringify(config));
  const options = ["--config-file", place.at("daemon.json"), "--data-root", place.at("data")];
  const files = ["--exec-root", place.at("exec"), "--pidfile", place.at("pid")];
  const network = ["--bridge=none", "--iptables=false", "--ip-forward=false"];
  // In a network namespace of its own: it would take the bridge of the machine's daemon away.
  const daemon = ["unshare", "--net", "dockerd", ...options, ...files, ...network];
  const address = await place.startEngine({}, (socket) => [...daemon, "--host", socket]);
  place.giveImages(address, [0, CONTRACT_UID]);
  return { DOCKER_HOST: address, ...WITHOUT_BUILDS, IPYBOX_RUNTIME: "runsc" };
}

/** A daemon in a container: docker-in-docker. It has the row's directory at its own path, as a CI's jobs and services share theirs. */
export async function startNestedDaemon(place) {
  buildCiImage();
  const capabilities = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_MODULE"];
  const privileges = [
    ...capabilities.flatMap((name) => ["--cap-add", name]),
    ...["seccomp", "systempaths", "apparmor"].flatMap((name) => ["--security-opt", `${name}=unconfined`]),
    ...["--device-cgroup-rule", "a *:* rwm", "-v", "/sys/fs/cgroup:/sys/fs/cgroup", "-v", "/var/lib/docker"],
  ];
  const shared = ["-v", `${place.directory}:${place.directory}`];
  const container = [
    "docker",
    "run",
    "--name",
    place.containerName("daemon"),
    "--rm",
    "--init",
    ...privileges,
    ...shared,
  ];
  const address = await place.startEngine({}, (socket) => [...container, CI_IMAGE, "dockerd", "--host", socket]);
  place.giveImages(address, [0, CONTRACT_UID]);
  return { DOCKER_HOST: address, ...WITHOUT_BUILDS };
}

/** The tests themselves in a container that has the socket of this machine's engine; what they make has another path there. */
export async function enterContainerWithSocket(place) {
  buildCiImage();
  const certificates = "/etc/ssl/certs/ca-certificates.crt";
  const python = run(join(ROOT, "images/kernel/.venv/bin/python"), ["-c", "import sys; print(sys.base_prefix)"]);
  const prefix = python.stdout.trim();
  const readable = [certificates, ...(prefix === "/usr" ? [] : [prefix])].filter((path) => existsSync(path));
  place.container = [
    ...["-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", `${ROOT}:${ROOT}`, "--workdir", ROOT],
    ...["-v", `${place.directory}:${place.directory}`, "-v", `${place.makeTemporaryDirectory()}:/builds`],
    ...readable.flatMap((path) => ["-v", `${path}:${path}:ro`]),
    CI_IMAGE,
  ];
  return {
    ...(existsSync(certificates) && { NODE_EXTRA_CA_CERTS: certificates, SSL_CERT_FILE: certificates }),
    npm_config_registry: run("npm", ["config", "get", "registry"]).stdout.trim(),
    TMPDIR: "/builds",
  };
}

/** The engine of this machine behind ssh, which the tests serve themselves. */
export function installSsh() {
  install(["openssh-client", "openssh-server"]);
  return {};
}

function buildCiImage() {
  const { status, stderr } = run(join(import.meta.dirname, "build-ci-image.sh"), [CI_IMAGE]);
  if (status !== 0) throw new Error(`no image for CI's containers: ${stderr}`);
}
