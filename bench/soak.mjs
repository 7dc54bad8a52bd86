// What a long session costs: node bench/soak.mjs [RESETS] [CELLS]. Memory, descriptors and processes on both sides must
// stay flat. Prints a line for each tenth of the way, and fails when the last is far above the second.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

import { Session } from "./session.mjs";

const [resets = 1_000, cells = 100_000] = process.argv.slice(2).map(Number);
const main = join(import.meta.dirname, "../dist/cli/main.js");
const session = await Session.open({
  command: process.execPath,
  // A small heap: V8 would let garbage pile up, and what stays would not be seen.
  args: ["--max-old-space-size=64", "--", main],
  environment: (base) => ({ XDG_STATE_HOME: join(base, "state") }),
});
const execute = (code) => session.call("execute_ipython_cell", { code });
const steps = {
  cells: async (i) => check(await execute(i % 2 === 0 ? `print(${i})` : String(i)), String(i)),
  resets: async (i) => {
    await session.call("reset", {});
    check(await execute(String(i)), String(i));
  },
};
try {
  await execute("1");
  const flat = [await soak("cells", cells), await soak("resets", resets)].every(Boolean);
  process.exitCode = flat ? 0 : 1;
} finally {
  await session[Symbol.asyncDispose]();
}

async function soak(name, count) {
  const figures = [];
  const startedAt = performance.now();
  for (let i = 0; i < count; i += 1) {
    await steps[name](i);
    if ((i + 1) % Math.ceil(count / 10) === 0) {
      figures.push(measure());
      console.log(name, i + 1, JSON.stringify(figures.at(-1)));
    }
  }
  console.log(name, `${((performance.now() - startedAt) / count).toFixed(1)} ms each`);
  // The first tenth warms up: caches fill, code is compiled.
  const [early, late] = [figures[1] ?? figures[0], figures.at(-1)];
  const grown = Object.keys(late).filter((key) => late[key] > early[key] * 1.25 + 20);
  if (grown.length > 0) console.log(name, "grew:", grown.join(", "));
  return grown.length === 0;
}

/** Resident megabytes, open descriptors and processes of the server, and of its sandbox. */
function measure() {
  const sandbox = execFileSync("docker", ["ps", "-q", "--filter", `label=io.ipybox.workspace=${session.workspace}`])
    .toString()
    .trim();
  const pids = execFileSync("docker", ["top", sandbox, "-eo", "pid"]).toString().split("\n").slice(1).filter(Boolean);
  return {
    serverMegabytes: megabytes(session.pid),
    serverDescriptors: descriptors(session.pid),
    sandboxMegabytes: sum(pids.map(megabytes)),
    sandboxDescriptors: sum(pids.map(descriptors)),
    sandboxProcesses: pids.length,
  };
}

function megabytes(pid) {
  const [, kilobytes] = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${Number(pid)}/smaps_rollup`, "utf8"));
  return Math.round(kilobytes / 1024);
}

function descriptors(pid) {
  return readdirSync(`/proc/${Number(pid)}/fd`).length;
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

function check(actual, expected) {
  if (actual !== expected) throw new Error(`expected ${expected}, got ${actual}`);
}
