// Opens sessions and kills them at random points, their client or their server; afterwards nothing may be left.
// node test/soak/sessions.mjs [COUNT] [SEED]      needs `make build image`
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import Docker from "dockerode";

const SIDE_BY_SIDE = 4;
const LONGEST_LIFE_MS = 9000;
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
const descriptors = countDescriptors();
const startedAt = Date.now();
console.log(`${count} sessions, ${SIDE_BY_SIDE} at a time, seed ${seed}`);
const endings = {};
let begun = 0;
await Promise.all(
  Array.from({ length: SIDE_BY_SIDE }, async () => {
    while (begun < count) await live(begun++);
  }),
);

const deadline = Date.now() + GONE_WITHIN_MS;
let left = difference(await inventory(), before);
while (left.length > 0 && Date.now() < deadline) {
  await sleep(200);
  left = difference(await inventory(), before);
}
rmSync(directory, { recursive: true, force: true });
execFileSync(process.execPath, [bin, "prune"], {
  cwd: join(import.meta.dirname, "../.."),
  env: environment(),
  stdio: "ignore",
});
rmSync(directory, { recursive: true, force: true });
const volumes = (await inventory()).filter((entry) => entry.startsWith("volume") && !before.includes(entry));

console.log(
  `ended: ${JSON.stringify(endings)}; ${await countContainers()} containers were made; ${((Date.now() - startedAt) / 1000).toFixed(0)} s`,
);
console.log(`descriptors of this process: ${descriptors} before, ${countDescriptors()} after`);
for (const entry of [...left.filter((entry) => !entry.startsWith("volume")), ...volumes]) {
  console.log(`left behind: ${entry}`);
  process.exitCode = 1;
}
if (process.exitCode === undefined) console.log("nothing is left behind");

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
  await Promise.race([sleep(random() * LONGEST_LIFE_MS), gone]);
  const ending = ["SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "end of input"][Math.floor(random() * 5)];
  endings[ending] = (endings[ending] ?? 0) + 1;
  if (ending === "end of input") server.stdin.end();
  else server.kill(ending);
  const [code] = await gone;
  if (code === 2) throw new Error("the server refused its options");
}

/** How many containers were made for these sessions. */
async function countContainers() {
  const window = { since: Math.floor(startedAt / 1000), until: Math.ceil(Date.now() / 1000) };
  const filters = JSON.stringify({ type: ["container"], event: ["create"], label: ["io.ipybox.owner"] });
  const events = (await text(await docker.getEvents({ ...window, filters }))).split("\n").filter(Boolean);
  return events.filter((line) => JSON.parse(line).Actor.Attributes["io.ipybox.workspace"].startsWith(directory)).length;
}

/** What sessions make: containers, volumes, processes, directories and sockets. */
async function inventory() {
  const containers = await docker.listContainers({ all: true, filters: { label: ["io.ipybox.owner"] } });
  const { Volumes } = await docker.listVolumes({ filters: { label: ["io.ipybox.workspace"] } });
  return [
    ...containers
      .filter(({ Labels }) => Labels["io.ipybox.workspace"].startsWith(directory))
      .map(({ Names, Status }) => `container ${Names[0]} ${Status}`),
    ...Volumes.filter(({ Labels }) => Labels["io.ipybox.workspace"].startsWith(directory)).map(
      ({ Name }) => `volume ${Name}`,
    ),
    ...readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid) && environmentOf(pid).includes(`XDG_RUNTIME_DIR=${directory}`))
      .map((pid) => `process ${pid}`),
    ...listed(join(directory, "ipybox")).map((name) => `directory ${name}`),
  ];
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
    return readdirSync(path);
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

function difference(entries, others) {
  return entries.filter((entry) => !others.includes(entry));
}
