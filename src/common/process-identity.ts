import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/**
 * Which process owns something that outlives it (a container, a session record). A pid alone is reused, and means
 * nothing on another machine or in another PID namespace, so all five parts count.
 */
export interface ProcessIdentity {
  readonly machine: string;
  readonly boot: string;
  readonly pidNamespace: string;
  readonly pid: number;
  /** Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22); empty where there is no /proc. */
  readonly startTime: string;
}

export function currentProcess(): ProcessIdentity {
  return identityOf(process.pid);
}

/** A process of this PID namespace that is there. */
export function identityOf(pid: number): ProcessIdentity {
  return { ...here(), pid, startTime: startTimeOf(pid) ?? "" };
}

/** `unknown`: of another machine or PID namespace, so not ours to judge. */
export function livenessOf(identity: ProcessIdentity): "alive" | "dead" | "unknown" {
  const own = here();
  if (identity.machine !== own.machine || identity.pidNamespace !== own.pidNamespace) return "unknown";
  if (identity.boot !== own.boot) return "dead";
  if (identity.startTime !== "") return startTimeOf(identity.pid) === identity.startTime ? "alive" : "dead";
  try {
    process.kill(identity.pid, 0);
    return "alive";
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM" ? "alive" : "dead";
  }
}

/** `machine:boot:namespace:pid:start`, for labels; {@link parseIdentity} is its inverse. */
export function formatIdentity(identity: ProcessIdentity): string {
  return [identity.machine, identity.boot, identity.pidNamespace, identity.pid, identity.startTime].join(":");
}

export function parseIdentity(text: string): ProcessIdentity | undefined {
  const [machine, boot, pidNamespace, pid, startTime, ...rest] = text.split(":");
  if (machine === undefined || boot === undefined || pidNamespace === undefined || startTime === undefined)
    return undefined;
  if (rest.length > 0 || pid === undefined || !/^[1-9][0-9]*$/.test(pid)) return undefined;
  return { machine, boot, pidNamespace, pid: Number(pid), startTime };
}

function here(): Omit<ProcessIdentity, "pid" | "startTime"> {
  return {
    machine: readOr("/etc/machine-id", hostname()).replaceAll(":", "-"),
    boot: readOr("/proc/sys/kernel/random/boot_id", "unknown"),
    pidNamespace: pidNamespace(),
  };
}

function pidNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "host";
  } catch {
    return "host"; // no Linux: there is only one
  }
}

function startTimeOf(pid: number): string | undefined {
  const stat = readOr(`/proc/${pid}/stat`, "");
  // The command name, in parentheses, may hold spaces and parentheses itself. A zombie owns nothing any more.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
}

function readOr(path: string, fallback: string): string {
  try {
    return readFileSync(path, "utf8").trim() || fallback;
  } catch {
    return fallback;
  }
}
