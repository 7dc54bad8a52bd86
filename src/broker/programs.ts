import { statSync } from "node:fs";
import { basename, delimiter, extname, isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { IpyboxError } from "../common/errors.ts";
import { findOnPath, isExecutable } from "../common/executables.ts";
import { passesThrough } from "./host-paths.ts";

export interface Program {
  /** As given; placeholders resolved. */
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface CheckedProgram {
  /** Absolute path of the executable. */
  readonly executable: string;
  readonly warnings: readonly string[];
}

/**
 * Finds the executable of a stdio upstream and makes sure that nothing which a cell can write (`writableDirectories`,
 * real paths) becomes a program on the host: not the command, not its directory, not a script or code directory among
 * its arguments, not what its environment makes it load. Paths that are mere data are admitted with a warning.
 *
 * Arguments are judged by what well-known interpreters and package runners do with them and by what the files are:
 * this protects from accidents and planted files, not from a registration that means harm, which could do it anyway.
 *
 * @throws IpyboxError `workspace-program`, or `upstream-start-failed` where there is no such command.
 */
export function checkProgram(
  program: Program,
  writableDirectories: readonly string[],
  options: { readonly allowWorkspace: boolean },
): CheckedProgram {
  const executable = locate(program);
  const isWritable = (path: string) => passesThrough(path, writableDirectories);
  // Also where it is not there yet: a cell may plant it later.
  if (!options.allowWorkspace && isWritable(executable)) throw refused("command", program.command);
  if (!isExecutable(executable)) throw notFound(program.command);
  if (!options.allowWorkspace) {
    if (isWritable(program.cwd)) throw refused("working directory", program.cwd);
    for (const argument of codeArguments(basename(executable), program)) {
      if (pathsIn(argument, program.cwd).some(isWritable)) throw refused("script argument", argument);
    }
    for (const argument of program.args) {
      const planted = pathsIn(argument, program.cwd).some((path) => isWritable(path) && isProgramFile(path));
      if (planted) throw refused("script argument", argument);
    }
    for (const [name, value] of Object.entries(program.env)) {
      const paths = value.split(delimiter).concat(value.split(/[\s=]/));
      if (LOADING_VARIABLES.has(name) && paths.some((path) => isAbsolute(path) && isWritable(path))) {
        throw refused(`environment variable ${name}`, value);
      }
    }
  }
  const readable = [...program.args, ...Object.values(program.env)];
  const warnings = readable.some((value) => writableDirectories.some((directory) => value.includes(directory)))
    ? ["This server can read files of the workspace that are hidden from cells, such as .env"]
    : [];
  return { executable, warnings };
}

function locate({ command, cwd, env }: Program): string {
  if (command.includes("/")) return resolve(cwd, command);
  const found = findOnPath(command, env["PATH"]);
  if (found !== undefined) return found;
  throw notFound(command);
}

const WRAPPERS = new Set(["env", "nice", "nohup", "setsid", "stdbuf", "sudo", "time", "timeout"]);
const INTERPRETER =
  /^(?:node|nodejs|deno|bun|tsx|ts-node|python[0-9.]*|pypy[0-9.]*|ruby|perl|php|lua|java|Rscript|pwsh|(?:ba|da|z|k|fi)?sh)$/;
const RUNNER = /^(?:npx|npm|pnpm|pnpx|yarn|bunx|uv|uvx|pipx|poetry|pipenv|hatch|make|cargo|go|dotnet|docker-compose)$/;
const SUBCOMMANDS = new Set(["run", "exec", "x", "dlx", "tool", "start", "--"]);
/** Options of the above whose value is a separate argument and names code, or at least no script. */
const VALUE_OPTIONS = new Set(
  (
    "-r --require --import --loader --experimental-loader -C --conditions -W -X -I -cp -classpath --class-path " +
    "--module-path --from --with --with-editable --with-requirements --directory --project --prefix --package -p " +
    "--cwd --dir -f --file --env-file --manifest-path --python --index-url --default-index"
  ).split(" "),
);
/** After these the code follows in the argument itself, or as the name of a module. */
const CODE_OPTIONS = new Set(["-c", "-e", "-m", "--eval", "--print", "-pe"]);

/**
 * The arguments that an interpreter or package runner may take code from: everything up to the script or package.
 * Nothing for other programs, whose arguments are data.
 */
function codeArguments(name: string, { args, cwd }: Pick<Program, "args" | "cwd">): readonly string[] {
  if (WRAPPERS.has(name)) return wrappedCode(args, cwd);
  if (!INTERPRETER.test(name) && !RUNNER.test(name)) return [];
  for (const [index, argument] of args.entries()) {
    const previous = args[index - 1] ?? "";
    if (CODE_OPTIONS.has(previous) && INTERPRETER.test(name)) return args.slice(0, index + 1);
    if (argument.startsWith("-") || VALUE_OPTIONS.has(previous) || SUBCOMMANDS.has(argument)) continue;
    const isScript = RUNNER.test(name) || pathsIn(argument, cwd).some(isFile);
    if (isScript) return args.slice(0, index + 1);
  }
  return args;
}

function wrappedCode(args: readonly string[], cwd: string): readonly string[] {
  const at = args.findIndex((argument) => !/^(?:-|[A-Za-z_][A-Za-z0-9_]*=|[0-9.]+[smhd]?$)/.test(argument));
  const command = args[at];
  if (command === undefined) return args;
  return [...args.slice(0, at + 1), ...codeArguments(basename(command), { args: args.slice(at + 1), cwd })];
}

/** What an argument may name: itself or the value of `--option=value`, as a path or a `file:` URL, or paths in code. */
function pathsIn(argument: string, cwd: string): string[] {
  const value = argument.slice(argument.startsWith("-") ? argument.indexOf("=") + 1 : 0);
  const words = [argument, value, ...value.split(/[\s'"`();&|<>,=@]+/)].filter((word) => word !== "");
  return words.map((word) => (word.startsWith("file://") ? fromFileUrl(word) : resolve(cwd, word)));
}

function fromFileUrl(url: string): string {
  try {
    return fileURLToPath(url);
  } catch {
    return url;
  }
}

const CODE_EXTENSIONS = new Set(
  ".js .mjs .cjs .jsx .ts .mts .cts .tsx .py .pyc .pyz .pyw .whl .sh .bash .zsh .rb .pl .php .lua .jar .class .wasm .node .so .dylib .ps1 .exe .tgz".split(
    " ",
  ),
);

function isProgramFile(path: string): boolean {
  const extension = extname(path).toLowerCase();
  // Some file systems show every file as executable, so that alone does not make data.csv a program.
  return isFile(path) && (CODE_EXTENSIONS.has(extension) || (extension === "" && isExecutable(path)));
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false; // not there, or no path at all
  }
}

/** Variables that make a program load code. PATH is cleaned instead. */
const LOADING_VARIABLES = new Set(
  (
    "NODE_OPTIONS NODE_PATH PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT " +
    "DYLD_INSERT_LIBRARIES DYLD_LIBRARY_PATH BASH_ENV ENV PERL5LIB PERL5OPT RUBYLIB RUBYOPT CLASSPATH " +
    "JAVA_TOOL_OPTIONS GIT_SSH GIT_SSH_COMMAND GIT_EXEC_PATH GIT_TEMPLATE_DIR GIT_CONFIG_GLOBAL NPM_CONFIG_PREFIX " +
    "npm_config_prefix npm_config_userconfig HOME UV_PROJECT"
  ).split(" "),
);

function notFound(command: string): IpyboxError {
  return new IpyboxError("upstream-start-failed", `Command not found: ${command}`, {
    hint: "Install it, or give its absolute path. Entries of PATH that lie in the workspace are not searched.",
  });
}

function refused(what: string, value: string): IpyboxError {
  return new IpyboxError("workspace-program", `The ${what} lies in the workspace, where cells can write: ${value}`, {
    hint: "Install the server outside the workspace, or start ipybox with --allow-workspace-upstream.",
  });
}
