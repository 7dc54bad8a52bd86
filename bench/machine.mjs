import { spawnSync } from "node:child_process";
import { cpus, loadavg, release, totalmem, type } from "node:os";
import process from "node:process";

/** What the figures depend on, in one line. */
export function describeMachine() {
  const docker = spawnSync("docker", ["version", "--format", "{{.Server.Version}}"], { encoding: "utf8" });
  const processors = cpus();
  return [
    `${processors.length} × ${processors[0]?.model.trim() ?? "unknown processor"}`,
    `${Math.round(totalmem() / 2 ** 30)} GiB`,
    `${type()} ${release()}`,
    `Docker ${docker.stdout?.trim() || "unknown"}`,
    `Node.js ${process.versions.node}`,
  ].join(", ");
}

/** What else the machine had to do: figures of a busy machine say little. */
export function watchLoad() {
  const before = loadavg()[0];
  return () => `load ${before.toFixed(1)} before, ${loadavg()[0].toFixed(1)} after`;
}
