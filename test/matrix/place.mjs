// What a row of the matrix gets of this machine, and what takes it all away again.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  watch,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

export const ROOT = join(import.meta.dirname, "../..");

/** An engine that has not said by then that it listens won't. */
const START_MS = 120_000;
/** No step of a set-up takes so long, but one that waits for what never comes. */
const STEP_MS = 600_000;
let usersMade = 0;

/** Why a row can't run here; anything else that is thrown is a failure of the row. */
export class Unavailable extends Error {}

/** A directory, a user and an engine of a row's own. */
export class Place {
  directory = mkdtempSync(join(tmpdir(), "test-matrix-"));
  /** Whose engine it is; root's if undefined. */
  user = undefined;
  /** Words of `docker run` that lead to the image in which the row's commands are run; this machine itself if undefined. */
  container = undefined;
  #removed = undefined;
  /** Outlives this process: it removes all of it, however this one ends. */
  #remover = spawn(process.execPath, [join(import.meta.dirname, "remover.mjs"), this.directory], {
    stdio: ["pipe", "inherit", "inherit"],
    detached: true,
  });

  constructor() {
    // Its end is seen where the row waits for it.
    this.#remover.stdin.on("error", () => undefined);
  }

  /** A new user, to whom the directory belongs from here on. */
  addUser() {
    const name = `ipybox-matrix-${process.pid}-${(usersMade += 1)}`; // one whose removal failed is in nobody's way
    if (process.getuid() !== 0) throw new Unavailable("only root can act as another user");
    const { status, stderr } = run("useradd", ["--create-home", "--shell", "/bin/sh", name]);
    if (status !== 0) throw new Error(`the user ${name} can't be made: ${stderr.trim()}`);
    this.user = { name, uid: Number(run("id", ["-u", name]).stdout) };
    this.#toBeRemoved({ uid: this.user.uid, name });
    run("chown", [`${name}:`, this.directory]);
  }

  /** A path in the directory. */
  at(name) {
    return join(this.directory, name);
  }

  /** As `/tmp` is: tests have servers of other users. */
  makeTemporaryDirectory() {
    chmodSync(this.directory, 0o711);
    mkdirSync(this.at("tmp"));
    chmodSync(this.at("tmp"), 0o1777);
    return this.at("tmp");
  }

  makeDirectory(name) {
    mkdirSync(this.at(name), { mode: 0o700 });
    if (this.user !== undefined) run("chown", [`${this.user.name}:`, this.at(name)]);
    return this.at(name);
  }

  /** A command line in the row's container, or of its user in an environment without root's variables. */
  command(env, ...words) {
    if (this.container !== undefined) {
      const variables = Object.entries(env).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
      return [
        "docker",
        "run",
        "--name",
        this.containerName("tests"),
        "--rm",
        "--init",
        ...variables,
        ...this.container,
        ...words,
      ];
    }
    if (this.user === undefined) return words;
    const kept = Object.entries(process.env).filter(([name]) => /CERT|CA_BUNDLE|_proxy$/i.test(name));
    const variables = { PATH: process.env.PATH, HOME: `/home/${this.user.name}`, ...Object.fromEntries(kept), ...env };
    const settings = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
    return ["runuser", "-u", this.user.name, "--", "env", "-i", ...settings, ...words];
  }

  /** Starts an engine and resolves to its address when its socket is there. `toCommand` is given the address. */
  async startEngine(env, toCommand) {
    const path = this.at("engine.sock");
    const [program, ...args] = this.command(env, ...toCommand(`unix://${path}`));
    // Into a file: nobody reads a pipe while the tests run, and a daemon whose log nobody reads stops.
    const log = openSync(this.at("engine.log"), "w");
    // There, since Podman's monitors write a file into where they are: "oom", when a container runs out of memory.
    const where = { cwd: this.directory, env: { ...process.env, ...env } };
    const child = this.spawn(program, args, { stdio: ["ignore", log, log], ...where });
    closeSync(log);
    await new Promise((resolve, reject) => {
      const watcher = watch(dirname(path), () => existsSync(path) && settle(resolve));
      const fail = (what) => settle(() => reject(new Unavailable(`${program} ${what}: ${this.#lastWords()}`)));
      const timer = setTimeout(() => fail(`has not opened its socket in ${START_MS / 1000} s`), START_MS);
      const settle = (then) => (watcher.close(), clearTimeout(timer), then());
      child.once("error", ({ message }) => fail(`can't be started, ${message}`));
      child.once("exit", () => fail("ended"));
    });
    return `unix://${path}`;
  }

  #lastWords() {
    const path = this.at("engine.log");
    return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n").at(-1) : "it has left no word";
  }

  /** Gives the engine the kernel images for these owners of workspaces, built by this machine's Docker. */
  giveImages(address, uids) {
    const tags = uids.map((uid) => kernelImageFor(uid, this.at(`workspace-of-${uid}`)));
    const socket = address.slice("unix://".length);
    const copy =
      'docker save "$@" | curl -sSf --unix-socket "$0" -H "Content-Type: application/x-tar" -T - -o /dev/null -X POST http://engine/images/load';
    const { status, stderr } = run("bash", ["-o", "pipefail", "-c", copy, socket, ...tags]);
    if (status !== 0) throw new Error(`the engine takes no image: ${stderr.trim()}`);
  }

  /** A checkout that belongs to the row's user, with a Python that this user can reach. */
  copyCheckout() {
    if (this.user === undefined) return ROOT;
    install(["python3-venv"]);
    const target = this.at("checkout");
    const left = new Set([".git", ".venv", "reports"]);
    cpSync(ROOT, target, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !left.has(path.split("/").at(-1)),
    });
    run("chown", ["-R", `${this.user.name}:`, target]);
    const [program, ...args] = this.command(
      { PYTHON: "/usr/bin/python3" },
      ...["bash", join(target, "images/kernel/make-venv.sh"), join(target, "images/kernel/.venv")],
    );
    const { status, stderr } = run(program, args);
    if (status !== 0) throw new Error(`no Python for ${this.user.name}: ${stderr}`);
    return target;
  }

  /** A process of the row's; whatever its group has left at the row's end is ended. */
  spawn(program, args, options) {
    const child = spawn(program, args, { ...options, detached: true });
    this.#toBeRemoved({ group: child.pid });
    return child;
  }

  /** Ends what was started, and removes what was made; twice is as once. */
  remove() {
    this.#removed ??= once(this.#remover, "exit");
    this.#remover.stdin.end();
    return this.#removed;
  }

  /** A name for a container, which is gone at the row's end. */
  containerName(name) {
    const container = `${basename(this.directory)}-${name}`;
    this.#toBeRemoved({ container });
    return container;
  }

  #toBeRemoved(thing) {
    this.#remover.stdin.write(`${JSON.stringify(thing)}\n`);
  }
}

/** Installs Debian's packages where they are missing. */
export function install(packages) {
  const missing = packages.filter((name) => run("dpkg", ["-s", name]).status !== 0);
  if (missing.length === 0) return;
  if (process.getuid() !== 0) throw new Unavailable(`only root can install ${missing.join(", ")}`);
  run("apt-get", ["update", "-qq"]);
  const { status, stderr } = run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...missing]);
  if (status !== 0)
    throw new Unavailable(`${missing.join(", ")} can't be installed: ${stderr.trim().split("\n").at(-1)}`);
}

/** Runs a program to its end. */
export function run(program, args, env = {}) {
  const variables = { ...process.env, DEBIAN_FRONTEND: "noninteractive", ...env };
  return spawnSync(program, args, { encoding: "utf8", env: variables, maxBuffer: 2 ** 26, timeout: STEP_MS });
}

function kernelImageFor(uid, workspace) {
  mkdirSync(workspace);
  run("chown", [`${uid}:${uid}`, workspace]);
  const build = run(process.execPath, [join(ROOT, "dist/cli/main.js"), "build"], { IPYBOX_WORKSPACE: workspace });
  if (build.status !== 0) throw new Error(`no kernel image: ${build.stderr}`);
  return build.stdout.trim();
}
