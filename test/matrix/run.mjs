// Runs the engine contract and end-to-end tests on every engine that this machine can have, each with data of its own,
// and prints a row for each: `node test/matrix/run.mjs [NAME…]` runs those whose names contain one of the words. Needs root.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");
const USER = "ipybox-matrix";
const CONTRACT = ["test/contract/engine/docker-socket.test.ts", "test/contract/engine/docker-exec.test.ts"];
const SESSIONS = ["test/e2e/cells.test.ts", "test/e2e/registration.test.ts"];
const ROWS = [
  { name: "docker, socket link", tests: [CONTRACT[0], ...SESSIONS], env: { IPYBOX_LINK: "socket" } },
  { name: "docker, exec link", tests: [CONTRACT[1], ...SESSIONS], env: { IPYBOX_LINK: "exec" } },
  { name: "podman", tests: [...CONTRACT, ...SESSIONS], setUp: (place) => startPodman(place) },
  // Without sessions: the Python that their servers run on may be one of root's home.
  { name: "podman, rootless", tests: CONTRACT, setUp: (place) => startPodman(place, USER) },
  { name: "docker, rootless", tests: CONTRACT, setUp: startRootlessDocker },
  { name: "gVisor", tests: SESSIONS, env: { IPYBOX_LINK: "exec", IPYBOX_RUNTIME: "runsc" }, setUp: startGVisor },
  { name: "engine on TCP, with TLS", tests: ["test/matrix/tcp-tls.test.ts"] },
  { name: "all-in-one image, and beside it with the engine's socket", tests: ["test/e2e/all-in-one.test.ts"] },
  { name: "sandbox-runtime", tests: ["test/contract/engine/srt.test.ts", ...SESSIONS], env: { IPYBOX_SANDBOX: "srt" } },
  { name: "no container", tests: ["test/contract/engine/none.test.ts", ...SESSIONS], env: { IPYBOX_SANDBOX: "none" } },
];

/** Why a row can't run here; anything else that is thrown is a bug of this script. */
class Unavailable extends Error {}

const words = process.argv.slice(2);
const results = [];
for (const row of ROWS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))) {
  console.log(`\n== ${row.name}`);
  results.push({ name: row.name, ...(await runRow(row)) });
}
const width = Math.max(...results.map(({ name }) => name.length));
console.log();
for (const { name, verdict } of results) console.log(`${name.padEnd(width)}  ${verdict}`);
process.exitCode = results.some(({ failed }) => failed) ? 1 : 0;

async function runRow({ tests, env = {}, setUp }) {
  const missing = tests.filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) return { failed: false, verdict: `not run: there is no ${missing.join(", ")}` };
  const directory = mkdtempSync(join(tmpdir(), "test-matrix-"));
  const place = { directory, processes: [] };
  try {
    const engine = (await setUp?.(place)) ?? {};
    return runTests(directory, tests, { ...env, ...engine.env }, engine.user);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return { failed: false, verdict: `not here: ${error.message}` };
  } finally {
    for (const process of place.processes) await end(process);
    // What engines leave mounted, deepest first.
    const mounts = readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[1] ?? "");
    for (const mount of mounts.filter((path) => path.startsWith(`${directory}/`)).reverse())
      run("umount", ["-l", mount]);
    rmSync(directory, { recursive: true, force: true });
  }
}

function runTests(directory, tests, env, user) {
  const report = join(directory, "report.json");
  const root = user === undefined ? ROOT : copyFor(user, join(directory, "checkout"));
  const projects = [...new Set(tests.map((path) => path.split("/")[1]))].flatMap((name) => ["--project", name]);
  const vitest = ["npx", "--no-install", "vitest", "run", ...projects, ...tests];
  const options = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const command = [...asUser(user, env), ...vitest, ...options];
  spawnSync(command[0], command.slice(1), { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (!existsSync(report)) return { failed: true, verdict: "FAILED before the first test" };
  const { numPassedTests: passed, numFailedTests: failed, success } = JSON.parse(readFileSync(report, "utf8"));
  return {
    failed: !success,
    verdict: `${passed} passed, ${failed} failed${success || failed > 0 ? "" : ", FAILED outside of tests"}`,
  };
}

async function startPodman({ directory, processes }, user) {
  install(["podman", "runc", "uidmap", "slirp4netns", "fuse-overlayfs"]);
  const address = `unix://${directory}/podman.sock`;
  const env = {
    CONTAINERS_CONF: join(directory, "containers.conf"),
    CONTAINERS_STORAGE_CONF: join(directory, "storage.conf"),
    XDG_RUNTIME_DIR: join(directory, "runtime"),
  };
  // What root may not raise, as in many a container, an engine's containers can't have: no limit above our own.
  const limit = run("sh", ["-c", "ulimit -Hn"]).stdout.trim();
  writeFileSync(
    env.CONTAINERS_CONF,
    `[containers]\ndefault_ulimits = ["nofile=${limit}:${limit}", "nproc=16384:16384"]\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n`,
  );
  writeFileSync(
    env.CONTAINERS_STORAGE_CONF,
    `[storage]\ndriver = "overlay"\ngraphroot = "${directory}/images"\nrunroot = "${directory}/containers"\n`,
  );
  mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 });
  giveTo(user, directory);
  await start(processes, [...asUser(user, env), "podman", "system", "service", "--time=0", address], env, address);
  return { user, env: { DOCKER_HOST: address, ...(user && env) } };
}

async function startRootlessDocker({ directory, processes }) {
  install(["docker.io", "rootlesskit", "slirp4netns", "uidmap"]);
  const script = "/usr/share/docker.io/contrib/dockerd-rootless.sh";
  if (!existsSync(script)) throw new Unavailable(`there is no ${script}`);
  const address = `unix://${directory}/docker.sock`;
  const env = {
    XDG_RUNTIME_DIR: join(directory, "runtime"),
    DOCKERD_ROOTLESS_ROOTLESSKIT_NET: "host", // the kernel image's build needs one; slirp4netns needs /dev/net/tun
    DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER: "none",
  };
  mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 });
  giveTo(USER, directory);
  const options = ["--iptables=false", "--bridge=none", "--data-root", join(directory, "data"), "--host", address];
  await start(processes, [...asUser(USER, env), "sh", script, ...options], env, address);
  return { user: USER, env: { DOCKER_HOST: address, XDG_RUNTIME_DIR: env.XDG_RUNTIME_DIR } };
}

async function startGVisor({ directory, processes }) {
  install(["docker.io", "runsc"]);
  const address = `unix://${directory}/docker.sock`;
  const at = (name) => join(directory, name);
  const runtime = { runtimes: { runsc: { path: "runsc", runtimeArgs: ["--platform=ptrace", "--network=none"] } } };
  writeFileSync(at("daemon.json"), JSON.stringify(runtime));
  const options = ["--config-file", at("daemon.json"), "--data-root", at("data"), "--exec-root", at("exec")];
  const network = ["--bridge=none", "--iptables=false", "--ip-forward=false"];
  // In a network namespace of its own: it would take the bridge of the machine's daemon away.
  const daemon = ["unshare", "--net", "dockerd", ...options, ...network, "--pidfile", at("pid"), "--host", address];
  await start(processes, daemon, {}, address);
  return { env: { DOCKER_HOST: address } };
}

/** Starts an engine and resolves when its socket is there; it takes over Debian's base image from the machine's Docker. */
async function start(processes, [program, ...args], env, address) {
  const path = address.slice("unix://".length);
  const log = [];
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    detached: true,
  });
  processes.push(child);
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => void log.splice(0, log.length - 50, String(chunk)));
  await new Promise((resolve, reject) => {
    const watcher = watch(join(path, ".."), () => existsSync(path) && settle(resolve));
    const settle = (then) => (watcher.close(), then());
    child.once("exit", () => settle(() => reject(new Unavailable(log.join("").trim().split("\n").at(-1) ?? program))));
  });
  const bases = run("docker", [
    "images",
    "--filter",
    "label=io.ipybox.image=base",
    "--format",
    "{{.Repository}}:{{.Tag}}",
  ]);
  for (const base of bases.stdout.split("\n").filter(Boolean)) {
    const copy =
      'docker save "$1" | curl -sf --unix-socket "$2" -H "Content-Type: application/x-tar" -T - -X POST http://engine/images/load';
    run("sh", ["-c", copy, "sh", base, path]);
  }
}

async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  process.kill(-child.pid, "SIGTERM"); // its helpers too
  await ended;
}

function install(packages) {
  const missing = packages.filter((name) => run("dpkg", ["-s", name]).status !== 0);
  if (missing.length === 0) return;
  if (process.getuid() !== 0) throw new Unavailable(`only root can install ${missing.join(", ")}`);
  run("apt-get", ["update", "-qq"]);
  const { status, stderr } = run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...missing]);
  if (status !== 0)
    throw new Unavailable(`${missing.join(", ")} can't be installed: ${stderr.trim().split("\n").at(-1)}`);
}

function giveTo(user, directory) {
  if (user === undefined) return;
  if (process.getuid() !== 0) throw new Unavailable("only root can act as another user");
  if (run("id", [user]).status !== 0 && run("useradd", ["--create-home", user]).status !== 0) {
    throw new Unavailable(`the user ${user} can't be made`);
  }
  run("chown", ["-R", `${user}:`, directory]);
}

function copyFor(user, target) {
  cpSync(ROOT, target, { recursive: true, verbatimSymlinks: true, filter: (path) => path !== join(ROOT, ".git") });
  giveTo(user, target);
  return target;
}

/** In a directory of their own, without root's variables. */
function asUser(user, env) {
  if (user === undefined) return [];
  const variables = Object.entries({ PATH: process.env.PATH, HOME: `/home/${user}`, ...env });
  return ["runuser", "-u", user, "--", "env", "-i", ...variables.map(([name, value]) => `${name}=${value}`)];
}

function run(program, args) {
  return spawnSync(program, args, { encoding: "utf8", env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } });
}
