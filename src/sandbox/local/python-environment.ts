import { cp, mkdir, readFile, realpath, rename, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { IpyboxError, messageOf } from "../../common/errors.ts";
import { readCaBundle } from "../build-host.ts";
import { withHostLock } from "../../common/host-lock.ts";
import type { PrepareOptions } from "../engine.ts";
import { hashSources, type KernelBuildOptions, type KernelSources, readRequirements } from "../kernel-sources.ts";
import { findPython, findUv } from "./find-programs.ts";
import { CommandFailure, runCommand } from "./run-command.ts";

export interface EnvironmentOptions extends KernelBuildOptions {
  /** Where environments are kept; whoever runs the kernels must be able to read it. */
  readonly dataDir: string;
  /** Directory of an environment that is there already, and is used instead of making one. */
  readonly madeEnvironment?: string | undefined;
}

/** A Python environment with the locked requirements and `ipybox_sandbox`, laid out as `/opt/ipybox` in the image. */
export interface PythonEnvironment {
  readonly directory: string;
  readonly python: string;
}

/** `<data>/environments/<hash of its content>`, unless one is given; it need not be there yet. */
export async function environmentOf(options: EnvironmentOptions): Promise<PythonEnvironment> {
  if (options.madeEnvironment !== undefined) return at(options.madeEnvironment);
  const hash = await hashSources(await toSources(options));
  return at(join(options.dataDir, "environments", hash));
}

/** Whether it was made, and the interpreter that it was made with is still there. */
export async function isMade({ directory, python }: PythonEnvironment): Promise<boolean> {
  try {
    return (await readFile(join(directory, INTERPRETER), "utf8")) === (await realpath(python));
  } catch {
    return false;
  }
}

/** The environment by its real path: a link may lead to it through what is hidden in sandboxes. */
export async function withoutLinks({ directory }: PythonEnvironment): Promise<PythonEnvironment> {
  return at(await realpath(directory));
}

/**
 * The environment, made first where it is missing: beside its place, then renamed, so that it is whole or absent.
 * Rejects with `environment-build-failed`.
 */
export async function ensureEnvironment(
  options: EnvironmentOptions,
  prepare: PrepareOptions,
): Promise<PythonEnvironment> {
  if (options.madeEnvironment !== undefined) return at(options.madeEnvironment);
  const sources = await toSources(options);
  const hash = await hashSources(sources);
  const environment = at(join(options.dataDir, "environments", hash));
  if (await isMade(environment)) return environment;
  const lock = {
    signal: prepare.signal,
    onWaiting: () =>
      prepare.onProgress({ message: "another ipybox process makes the Python environment; waiting for it" }),
  };
  return await withHostLock(join(options.stateDir, "locks", `environment-${hash}`), lock, async () => {
    if (await isMade(environment)) return environment;
    const making = at(join(options.dataDir, "environments", `.making-${hash}`));
    await rm(making.directory, { recursive: true, force: true }); // of a build that was killed
    try {
      await mkdir(making.directory, { recursive: true });
      await make({ environment: making, sources, options }, prepare);
      await rm(environment.directory, { recursive: true, force: true }); // its interpreter is gone
      await rename(making.directory, environment.directory);
      return environment;
    } catch (cause) {
      await rm(making.directory, { recursive: true, force: true });
      prepare.signal.throwIfAborted();
      if (!(cause instanceof CommandFailure)) throw cause;
      throw new IpyboxError("environment-build-failed", `The Python environment can't be made: ${messageOf(cause)}`, {
        hint: "Read the lines above; `ipybox build` tries again. Proxies, certificates and UV_* variables are the server's own.",
        cause,
      });
    }
  });
}

/** In an environment's directory: the real path of the interpreter, written last. */
const INTERPRETER = "interpreter";
/** Of the server's environment, what concerns where packages come from. Nothing else reaches what is built. */
const PASSED_ON = /^(PATH|HOME|TMPDIR|LANG|XDG_CACHE_HOME|XDG_CONFIG_HOME|UV_.*|PIP_.*|(HTTPS?|ALL|NO)_PROXY)$/i;

interface Making {
  readonly environment: PythonEnvironment;
  readonly sources: KernelSources;
  readonly options: EnvironmentOptions;
}

async function make({ environment, sources, options }: Making, prepare: PrepareOptions): Promise<void> {
  const { directory, python } = environment;
  const env = await buildEnvironment(directory, options.env);
  const step = (current: number, message: string) => prepare.onProgress({ message, step: { current, total: 5 } });
  const run = (...command: string[]) => runCommand(command, { env, signal: prepare.signal });
  const lock = join(sources.directory, "requirements.lock");
  const venv = join(directory, "venv");

  step(1, "looking for Python");
  const { uv, version } = await chooseUv({ directory, lock, env }, prepare);
  step(2, "making a virtual environment");
  // Relocatable: its scripts stay right when it is renamed.
  await run(uv, "venv", "--quiet", "--no-project", "--relocatable", "--python", version, venv);
  step(3, "installing the locked packages");
  await run(uv, "pip", "sync", "--quiet", "--compile-bytecode", "--require-hashes", "--python", python, lock);
  if (sources.requirements !== undefined) {
    step(4, "installing the packages of --requirements");
    const requirements = join(directory, "requirements.txt");
    await writeFile(requirements, sources.requirements);
    const constraints = ["--constraints", lock, "--excludes", join(sources.directory, "excludes.txt")];
    const target = ["--python", python, "--requirements", requirements];
    await run(join(venv, "bin", "uv"), "pip", "install", "--quiet", "--compile-bytecode", ...constraints, ...target);
  }
  step(5, "installing ipybox's own modules");
  await installModules(environment, sources.directory, run);
  await Promise.all([BUNDLE, "uv"].map((name) => rm(join(directory, name), { recursive: true, force: true })));
  await writeFile(join(directory, INTERPRETER), await realpath(python));
}

/** The user's uv, which finds or fetches a Python itself; else the locked one, fetched by the pip of a Python. */
async function chooseUv(
  { directory, lock, env }: { directory: string; lock: string; env: Readonly<Record<string, string>> },
  { signal, onProgress }: PrepareOptions,
): Promise<{ uv: string; version: string }> {
  const uv = findUv(env);
  if (uv !== undefined) return { uv, version: ">=3.11,<3.15" };
  const python = await findPython(env, signal);
  const bootstrap = join(directory, "uv");
  const uvLock = join(directory, "uv.lock");
  await writeFile(uvLock, lockOf("uv", await readFile(lock, "utf8")));
  onProgress({ message: `fetching uv with ${python}` });
  await runCommand([python, "-m", "venv", bootstrap], { env, signal });
  const options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"];
  await runCommand([join(bootstrap, "bin", "pip"), "install", ...options, "-r", uvLock], { env, signal });
  await rm(uvLock);
  return { uv: join(bootstrap, "bin", "uv"), version: python };
}

/** The entry of one package in a requirements lock: its line, and the indented ones below. */
function lockOf(name: string, lock: string): string {
  const entries = lock.split(/\n(?=[^\s#])/);
  return `${entries.find((entry) => entry.startsWith(`${name}==`)) ?? ""}\n`;
}

/** Modules of ours lie outside site-packages, as in the image. matplotlib's font list takes seconds to make. */
async function installModules(
  { directory, python }: PythonEnvironment,
  sources: string,
  run: (...command: string[]) => Promise<string>,
): Promise<void> {
  const library = join(directory, "lib");
  for (const name of ["ipybox_sandbox", "mcpygen"]) {
    const filter = (path: string) => !path.includes("__pycache__");
    await cp(join(sources, name), join(library, name), { recursive: true, filter });
  }
  await run(python, "-I", "-m", "compileall", "-q", library);
  const purelib = await run(python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))");
  const site = purelib.trim();
  await writeFile(join(site, "ipybox.pth"), `${relative(site, library)}\n`); // relative, for the rename to come
  await run(python, "-I", "-c", FONT_LIST);
}

const FONT_LIST = `
import os, sys
os.environ["MPLCONFIGDIR"] = os.path.join(os.path.dirname(sys.prefix), "matplotlib")
import matplotlib.font_manager
`;

const BUNDLE = "ca.pem";

async function buildEnvironment(
  directory: string,
  server: EnvironmentOptions["env"],
): Promise<Readonly<Record<string, string>>> {
  const bundle = join(directory, BUNDLE);
  await writeFile(bundle, (await readCaBundle(server)).pem);
  const passed = Object.entries(server).flatMap(([name, value]) =>
    value !== undefined && PASSED_ON.test(name) ? [[name, value] as const] : [],
  );
  return { ...Object.fromEntries(passed), SSL_CERT_FILE: bundle, PIP_CERT: bundle };
}

function at(directory: string): PythonEnvironment {
  return { directory, python: join(directory, "venv", "bin", "python") };
}

async function toSources(options: EnvironmentOptions): Promise<KernelSources> {
  return {
    directory: join(options.imagesDir, "kernel"),
    arguments: { platform: `${process.platform}-${process.arch}` },
    requirements: options.requirements === undefined ? undefined : await readRequirements(options.requirements),
  };
}
