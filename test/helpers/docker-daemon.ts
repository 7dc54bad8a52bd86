import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import Docker from "dockerode";

/**
 * A Docker Engine of the test's own, which may be stopped and killed. Needs root. It runs in a network namespace of its
 * own: a daemon with `--bridge=none` removes the bridge of the machine's daemon, and one with a bridge changes its rules.
 */
export class DockerDaemon implements AsyncDisposable {
  readonly #directory = mkdtempSync(join(tmpdir(), "test-dockerd-"));
  readonly address = `unix://${this.#directory}/docker.sock`;
  readonly api = new Docker({ socketPath: `${this.#directory}/docker.sock` });
  #process: ChildProcess | undefined;

  /** Resolves when it answers. */
  async start(): Promise<void> {
    const at = (name: string) => join(this.#directory, name);
    const options = [
      ...["--data-root", at("data"), "--exec-root", at("exec"), "--pidfile", at("pid"), "--host", this.address],
      ...["--bridge=none", "--iptables=false", "--ip-forward=false"],
    ];
    // Of a daemon that was killed: its number may be another process's by now, which would be waited for.
    rmSync(at("exec/containerd/containerd.pid"), { force: true });
    const daemon = spawn("unshare", ["--net", "dockerd", ...options], { stdio: ["ignore", "ignore", "pipe"] });
    this.#process = daemon;
    const words: string[] = [];
    await new Promise<void>((resolve, reject) => {
      // Read to its end: a daemon whose log nobody reads stops.
      createInterface({ input: daemon.stderr }).on("line", (line) => {
        words.push(line);
        words.splice(0, words.length - 10);
        if (line.includes("API listen on")) resolve();
      });
      daemon.once("exit", () => reject(new Error(`dockerd ended:\n${words.join("\n")}`)));
    });
  }

  /** Takes an image of the machine's daemon over. */
  copyImage(tag: string): void {
    execFileSync("sh", ["-c", `docker save "$1" | docker --host "$2" load`, "sh", tag, this.address], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const daemon = this.#process;
    this.#process = undefined;
    if (daemon?.exitCode !== null || daemon.signalCode !== null) return;
    const ended = once(daemon, "exit");
    daemon.kill(signal);
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // One that was killed left mounts behind, which its successor removes.
    if (this.#process === undefined) await this.start();
    await this.end("SIGTERM");
    // Each start binds this directory onto itself; only the last one is undone.
    execFileSync("sh", ["-c", 'while umount "$0" 2>/dev/null; do :; done', join(this.#directory, "data")]);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
