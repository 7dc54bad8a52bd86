import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

import { NotThere } from "./subjects.mjs";

/** The processes of a session, those of its container included, with the memory that each accounts for. */
export function proportionalMemory(session) {
  const table = processTable();
  const pids = [...descendants(table, session.pid), ...containerProcesses(session)];
  return pids.map((pid) => ({ name: nameOf(table.get(pid)?.command ?? ""), megabytes: pssOf(pid) }));
}

function processTable() {
  const rows = readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
        const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
        const command = readFileSync(`/proc/${entry}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        return [[Number(entry), { parent, command }]];
      } catch {
        return []; // it has ended
      }
    });
  return new Map(rows);
}

function descendants(table, root) {
  const children = [...table].filter(([, { parent }]) => parent === root).map(([pid]) => pid);
  return [root, ...children.flatMap((pid) => descendants(table, pid))];
}

function containerProcesses(session) {
  const filter = `label=io.ipybox.workspace=${session.workspace}`;
  const ids = docker("ps", "--quiet", "--filter", filter).split("\n").filter(Boolean);
  return ids.flatMap((id) =>
    docker("top", id, "-eo", "pid")
      .split("\n")
      .slice(1)
      .map(Number)
      .filter((pid) => pid > 0),
  );
}

function docker(...args) {
  return execFileSync("docker", args, { encoding: "utf8" });
}

function pssOf(pid) {
  try {
    const [, kilobytes] = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    return (Number(kilobytes) * 1024) / 1e6;
  } catch (error) {
    if (error.code === "EACCES") throw new NotThere("only root can read the memory of a sandbox's processes");
    throw error;
  }
}

/** `ipybox_sandbox.gateway` says more than `python`. */
function nameOf(command) {
  return /ipybox_sandbox\.(?:apigen\.)?(\w+)/.exec(command)?.[1] ?? command.split(" ")[0].split("/").at(-1);
}
