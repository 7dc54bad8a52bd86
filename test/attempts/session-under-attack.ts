import { execFileSync } from "node:child_process";
import { mkdtempSync, realpathSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import Docker from "dockerode";
import { inject } from "vitest";

import { TestClient, TestDirectory, textOf } from "../helpers/client.ts";

export const docker = new Docker();

export interface AttackOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Fills the workspace before the server starts. */
  readonly prepare?: (workspace: string, directory: TestDirectory) => unknown;
}

/** A session whose cells try what they must not be able to do. */
export class SessionUnderAttack implements AsyncDisposable {
  readonly directory: TestDirectory;
  readonly client: TestClient;
  /** The kernel image that its sandbox runs. */
  readonly image: string;
  /** Of its first sandbox. */
  readonly containerId: string;

  private constructor(directory: TestDirectory, client: TestClient, found: { Id: string; Image: string }) {
    this.directory = directory;
    this.client = client;
    this.containerId = found.Id;
    this.image = found.Image;
  }

  static async open({ args = [], env = {}, prepare }: AttackOptions = {}): Promise<SessionUnderAttack> {
    const directory = new TestDirectory();
    try {
      const workspace = directory.make("workspace");
      await prepare?.(workspace, directory);
      giveToCells(workspace);
      const client = await TestClient.connect({ bin: inject("ipyboxBin"), directory, workspace, args, env });
      await client.text("");
      const [found] = await containersOf(workspace);
      if (found === undefined) throw new Error("the session has no container");
      return new SessionUnderAttack(directory, client, found);
    } catch (error) {
      directory[Symbol.dispose]();
      throw error;
    }
  }

  get workspace(): string {
    return this.client.workspace;
  }

  /** The container of the moment: one that could not be saved any other way is replaced. */
  async container(): Promise<Docker.Container> {
    const [found] = await containersOf(this.workspace);
    if (found === undefined) throw new Error("the session has no container");
    return docker.getContainer(found.Id);
  }

  /** Runs `code` in a cell: `succeeded: <value of its last expression>` or `refused: <exception>`. */
  async tries(code: string, timeout = 60): Promise<string> {
    return textOf(await this.client.cell(attempt(code), { timeout }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client[Symbol.asyncDispose]();
    this.directory[Symbol.dispose]();
  }
}

/** A file system of its own in memory, for cells to write on. Making one needs root. */
export class SmallDisk implements Disposable {
  readonly path = realpathSync(mkdtempSync(join(tmpdir(), "test-ipybox-disk-")));

  constructor(sizeMb: number) {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeMb}m,uid=1000,gid=1000`, "tmpfs", this.path]);
  }

  [Symbol.dispose](): void {
    execFileSync("umount", [this.path]);
    rmdirSync(this.path);
  }
}

/** Cells are nobody's root, and own all of the workspace: nothing but the walls is in their way. */
export function giveToCells(workspace: string): void {
  if (process.getuid?.() === 0) execFileSync("chown", ["-R", "1000:1000", workspace]);
}

/** The sandboxes, installers too, of a workspace. */
export async function containersOf(workspace: string): Promise<Docker.ContainerInfo[]> {
  return await docker.listContainers({ all: true, filters: { label: [`io.ipybox.workspace=${workspace}`] } });
}

/**
 * Runs `code` as {@link SessionUnderAttack.tries} does, in a container of the same image without our init and with
 * the engine's own defaults, but for what `hostConfig` says: what an attempt does when the wall is not there.
 */
export async function withoutWalls(image: string, code: string, hostConfig: Docker.HostConfig = {}): Promise<string> {
  const container = await docker.createContainer({
    Image: image,
    Entrypoint: ["/opt/ipybox/venv/bin/python", "-c", attempt(code)],
    User: "1000:1000",
    Tty: true, // so that the output is one stream of plain bytes
    HostConfig: { NetworkMode: "none", ...hostConfig },
  });
  try {
    const output = await container.attach({ stream: true, stdout: true, stderr: true });
    await container.start();
    return (await text(output)).replaceAll("\r\n", "\n").trim();
  } finally {
    await container.remove({ force: true });
  }
}

/** The Python that tries `code`, and prints what came of it. */
function attempt(code: string): string {
  return `${PRELUDE}\nprint(tries(${JSON.stringify(code)}))`;
}

const PRELUDE = String.raw`
import ast, ctypes, errno, glob, os, pathlib, signal, socket, subprocess, sys, time, warnings

libc = ctypes.CDLL(None, use_errno=True)

def fail(code):
    raise OSError(code, os.strerror(code))

def checked(result):
    """The result of a call of libc, or its error."""
    return result if result != -1 else fail(ctypes.get_errno())

def syscall(name, *arguments):
    numbers = {
        "x86_64": {"bpf": 321, "io_uring_setup": 425, "userfaultfd": 323, "keyctl": 250, "perf_event_open": 298,
                   "openat2": 437, "clone3": 435, "unshare": 272, "setns": 308, "pidfd_getfd": 438, "fsopen": 430,
                   "open_by_handle_at": 304},
        "aarch64": {"bpf": 280, "io_uring_setup": 425, "userfaultfd": 282, "keyctl": 219, "perf_event_open": 241,
                    "openat2": 437, "clone3": 435, "unshare": 97, "setns": 268, "pidfd_getfd": 438, "fsopen": 430,
                    "open_by_handle_at": 265},
    }
    return checked(libc.syscall(numbers[os.uname().machine][name], *arguments))

def pid_of(module):
    """A helper of the sandbox by the module that it runs."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        if f"ipybox_sandbox.{module}".encode() in pathlib.Path(path).read_bytes().split(b"\0"):
            return int(path.split("/")[2])
    raise LookupError(module)

def connected(address, family=socket.AF_INET):
    with socket.socket(family) as stream:
        stream.settimeout(3)
        stream.connect(address)
        return "connected"

def peek(pid):
    """Asks for a byte at address 0, where there is none: what fails is the look itself, or looking there."""
    vector = (ctypes.c_size_t * 2)(0, 1)
    try:
        return checked(libc.process_vm_readv(pid, vector, 1, vector, 1, 0))
    except OSError as error:
        return "looked" if error.errno == errno.EFAULT else fail(error.errno)

def running_child():
    """A process of the cell's own, past its exec."""
    child = subprocess.Popen(["cat"], stdin=-1, stdout=-1)
    child.stdin.write(b"\n")
    child.stdin.flush()
    child.stdout.readline()
    return child.pid

def tries(code):
    warnings.simplefilter("ignore")
    body = ast.parse(code).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else ast.parse("None").body[0]
    scope = dict(globals())
    try:
        exec(compile(ast.Module(body, []), "attempt", "exec"), scope)
        return f"succeeded: {eval(compile(ast.Expression(last.value), 'attempt', 'eval'), scope)!r}"
    except BaseException as error:
        return f"refused: {type(error).__name__}: {error}"
`;
