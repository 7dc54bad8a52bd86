// Opens sessions and kills them at random points, their client or their server; afterwards nothing may be left.
// node test/soak/sessions.mjs [COUNT] [SEED]      needs `make build image`
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import Docker from "dockerode";

const SIDE_BY_SIDE = 4;
const GONE_WITHIN_MS = 5000;
const count = Number(process.argv[2] ?? 200);
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000);
const bin = join(import.meta.dirname, "../../dist/cli/main.js");
const directory = mkdtempSync(join(tmpdir(), "ipybox-soak-"));
const docker = new Docker();

/** A generator of its own, so that a run can be repeated by its seed. */
let state = seed;
function random() {
  state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
  return state / 2_147_483_648;
}

const before = await inventory();
/** So that about half of them get as far as their cells: several at a time take longer than one. */
const longestLifeMs = 2 * timeOneCell();
const descriptors = countDescriptors();
const startedAt = Date.now();
console.log(`${count} sessions of up to ${longestLifeMs / 1000} s, ${SIDE_BY_SIDE} at a time, seed ${seed}`);
// Followed, not asked for at the end: the engine remembers few.
const containersMade = await followCreations();
const endings = {};
let begun = 0;
await Promise.all(
  Array.from({ length: SIDE_BY_SIDE }, async () => {
    while (begun < count) await live(begun++);
  }),
);

const made = containersMade();
const deadline = Date.now() + GONE_WITHIN_MS;
let after = await inventory();
while (leftIn(after).length > 0 && Date.now() < deadline) {
  await sleep(200);
  after = await inventory();
}
rmSync(directory, { recursive: true, force: true });
execFileSync(process.execPath, [bin, "prune"], {
  cwd: join(import.meta.dirname, "../.."),
  env: environment(),
  stdio: "ignore",
});
rmSync(directory, { recursive: true, force: true });
const pruned = await inventory();

const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
console.log(`ended by ${JSON.stringify(endings)}; ${made} containers were made; ${seconds} s`);
console.log(`${"".padEnd(12)}before  after  after \`prune\` with the workspaces gone`);
for (const kind of Object.keys(before)) {
  const counts = [before, after, pruned].map((found) => String(found[kind].length).padStart(6));
  console.log(`${kind.padEnd(12)}${counts.join(" ")}`);
}
console.log(`descriptors ${String(descriptors).padStart(6)} ${String(countDescriptors()).padStart(6)}`);
const left = [...leftIn(after), ...pruned.volumes.filter((name) => !before.volumes.includes(name))];
for (const entry of left) console.log(`left behind: ${entry}`);
if (made < count / 4) console.log("too few of them got as far as a sandbox: is the kernel image there?");
if (left.length > 0 || countDescriptors() > descriptors || made < count / 4) process.exitCode = 1;
else console.log("nothing is left behind");

/** One session, from its start to whatever ends it. */
async function live(number) {
  const workspace = join(directory, `w${number % (2 * SIDE_BY_SIDE)}`);
  const server = spawn(process.execPath, [bin, "--workspace", workspace], {
    env: environment(),
    stdio: ["pipe", "ignore", "ignore"],
  });
  server.stdin.on("error", () => undefined);
  const gone = once(server, "exit");
  const clientInfo = { name: "soak", version: "1" };
  const send = (message) => server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  send({ id: 1, method: "initialize", params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo } });
  send({ method: "notifications/initialized" });
  const calls = [
    ["execute_ipython_cell", { code: "import subprocess; subprocess.Popen(['setsid', 'sleep', '1000'])" }],
    ["execute_ipython_cell", { code: "while True: print('x')" }],
    ["reset", {}],
    ["install_package", { package_name: "no-such-package-of-the-soak" }],
  ];
  for (const [index, [name, args]] of calls.entries()) {
    if (random() < 0.5) send({ id: index + 2, method: "tools/call", params: { name, arguments: args } });
  }
  await Promise.race([sleep(random() * longestLifeMs), gone]);
  const ending = ["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "end of input"][Math.floor(random() * 5)];
  endings[ending] = (endings[ending] ?? 0) + 1;
  if (ending === "end of input") server.stdin.end();
  else server.kill(ending);
  const [code] = await gone;
  if (code === 2) throw new Error("the server refused its options");
}

function timeOneCell() {
  const began = Date.now();
  const options = { env: environment(), input: "1", stdio: ["pipe", "ignore", "inherit"] };
  execFileSync(process.execPath, [bin, "run", "--workspace", join(directory, "w0"), "-"], options);
  return Date.now() - began;
}

/** Counts the containers that are made for these sessions from now on; the result ends it and tells. */
async function followCreations() {
  const filters = JSON.stringify({ type: ["container"], event: ["create"], label: ["io.ipybox.owner"] });
  const events = await docker.getEvents({ filters });
  let counted = 0;
  createInterface({ input: events }).on("line", (line) => {
    if (JSON.parse(line).Actor.Attributes["io.ipybox.workspace"]?.startsWith(directory)) counted += 1;
  });
  return () => {
    events.on("error", () => undefined).destroy();
    return counted;
  };
}

/** What sessions make, by kind. Volumes stay as long as their workspace does. */
async function inventory() {
  const containers = await docker.listContainers({ all: true, filters: { label: ["io.ipybox.owner"] } });
  const { Volumes } = await docker.listVolumes({ filters: { label: ["io.ipybox.workspace"] } });
  const ofOurs = ({ Labels }) => Labels["io.ipybox.workspace"]?.startsWith(directory);
  const inRunDirectory = listed(join(directory, "ipybox"));
  return {
    containers: containers.filter(ofOurs).map(({ Names, Status }) => `${Names[0]} ${Status}`),
    processes: readdirSync("/proc").filter(
      (pid) => /^\d+$/.test(pid) && environmentOf(pid).includes(`XDG_RUNTIME_DIR=${directory}`),
    ),
    sockets: inRunDirectory.filter((name) => name.endsWith(".sock")),
    directories: inRunDirectory.filter((name) => !name.endsWith(".sock")),
    volumes: Volumes.filter(ofOurs).map(({ Name }) => Name),
  };
}

function leftIn(found) {
  return Object.entries(found)
    .filter(([kind]) => kind !== "volumes")
    .flatMap(([kind, entries]) =>
      entries.filter((entry) => !before[kind].includes(entry)).map((entry) => `${kind}: ${entry}`),
    );
}

function environment() {
  return { ...process.env, XDG_RUNTIME_DIR: directory, XDG_STATE_HOME: join(directory, "state") };
}

function environmentOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1");
  } catch {
    return ""; // it ended just now, or is another user's
  }
}

function listed(path) {
  try {
    return readdirSync(path, { recursive: true });
  } catch {
    return []; // it is not there yet
  }
}

function countDescriptors() {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) !== "";
    } catch {
      return false; // the one that read the list
    }
  }).length;
}
