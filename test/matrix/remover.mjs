// Takes away what a row of the matrix made, when its stdin ends: at the row's end, or because the row was killed.
// `node remover.mjs DIRECTORY`; a line of stdin for each thing beside the directory: {"group":PID}, {"uid":UID,"name":NAME} or
// {"container":NAME} of this machine's Docker.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";

/** Daemons unmount what they mounted when they are asked to end. */
const PATIENCE_MS = 20_000;
/** Nothing tells of the end of a process that is nobody's child here. */
const LOOK_AGAIN_MS = 50;

const [directory] = process.argv.slice(2);
const made = [];
for await (const line of createInterface({ input: process.stdin })) made.unshift(JSON.parse(line));
for (const { group } of made) if (group !== undefined) await endGroup(group);
for (const { container } of made)
  if (container !== undefined) spawnSync("docker", ["rm", "--force", "--volumes", container], { stdio: "ignore" });
for (const { uid } of made) if (uid !== undefined) killAll((pid) => statSync(`/proc/${pid}`).uid === uid);
// What an engine starts for each of its containers is meant to outlive it, and names its directory.
killAll((pid) => readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(`${directory}/`));
for (const { name } of made) if (name !== undefined) spawnSync("userdel", ["--remove", name]);
for (const mount of mountsBelow(directory)) spawnSync("umount", ["-l", mount]);
rmSync(directory, { recursive: true, force: true });

async function endGroup(group) {
  const deadline = Date.now() + PATIENCE_MS;
  send(group, "SIGTERM");
  while (send(group, 0) && Date.now() < deadline) await delay(LOOK_AGAIN_MS);
  send(group, "SIGKILL");
}

/** Whether there is anything of it. */
function send(group, signal) {
  try {
    return process.kill(-group, signal);
  } catch {
    return false;
  }
}

/** Until there is none left. */
function killAll(isOurs) {
  for (let left = livingWhere(isOurs); left.length > 0; left = livingWhere(isOurs))
    spawnSync("kill", ["-KILL", ...left]);
}

function livingWhere(isOurs) {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && isOurs(pid) && !/^\S+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
    } catch {
      return false; // it has ended meanwhile
    }
  });
}

/** What engines leave mounted, deepest first. */
function mountsBelow(path) {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  return mounts
    .map((line) => line.split(" ")[1] ?? "")
    .filter((mount) => mount.startsWith(`${path}/`))
    .reverse();
}
