import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { describe, expect } from "vitest";

import { AllInOneImage } from "../helpers/all-in-one.ts";
import { textOf } from "../helpers/client.ts";
import { test as base } from "../helpers/session.ts";

const run = promisify(execFile);
const SECRET = "secret-of-this-container";

const test = base
  .extend("image", { scope: "file" }, () => AllInOneImage.build())
  .extend("server", { scope: "file" }, async ({ image, directory }, { onCleanup }) => {
    const workspace = image.makeWorkspace(directory);
    const client = await image.connect(directory, workspace, ["-e", `GIVEN_API_KEY=${SECRET}`]);
    onCleanup(() => client[Symbol.asyncDispose]());
    writeFileSync(join(workspace, "upstream.sh"), UPSTREAM);
    // A program of the workspace is none of the server's: this one is copied to where cells don't write.
    await client.register("status", {
      command: "/bin/sh",
      args: ["-c", UPSTREAM],
      env: { KEY: "${GIVEN_API_KEY}" },
    });
    return client;
  });

/** An MCP server without tools, as long as its client is there. */
const UPSTREAM = `
while read -r request; do
  id=$(printf '%s' "$request" | sed -n 's/.*"id":\\([0-9]*\\).*/\\1/p')
  [ -n "$id" ] || continue
  case "$request" in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}' ;;
    *) result='{"tools":[{"name":"wait","inputSchema":{"type":"object"}}]}' ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\\n' "$id" "$result"
done`;

/** What a cell finds out about the processes of others: by user, the pids. */
const OTHERS = `
import os, ctypes, signal
def others():
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            uid = os.stat(f"/proc/{pid}").st_uid
            owner = open(f"/proc/{pid}/status").read().split("Uid:")[1].split()[0]
        except OSError:
            continue
        if int(owner) != os.getuid():
            found.setdefault(int(owner), []).append(int(pid))
    return found
def refused(attempt):
    try:
        return f"done: {attempt()!r}"
    except OSError as error:
        return os.strerror(error.errno)
`;

describe("a cell of the all-in-one image", { timeout: 600_000 }, () => {
  test("finds the server and its MCP server, each of a user of its own", async ({ server }) => {
    expect(await server.text(`${OTHERS}\nsorted(others())`)).toBe("[0, 60514]");
  });

  test.for(["environ", "mem", "maps", "fd", "cwd", "root/etc/shadow"])(
    "can't read /proc/<pid>/%s of either",
    async (name, { server }) => {
      const read =
        name === "fd" ? "os.listdir(path)" : name === "cwd" ? "os.readlink(path)" : "open(path, 'rb').read(1)";
      const code = `{refused(lambda path=f"/proc/{pid}/${name}": ${read}) for pids in others().values() for pid in pids}`;
      expect(await server.text(`${OTHERS}\n${code}`)).toBe("{'Permission denied'}");
    },
  );

  test("can't signal, trace or read the memory of either", async ({ server }) => {
    const code = `
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if libc[name](*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
pids = [pid for group in others().values() for pid in group]
memory = ctypes.create_string_buffer(1)
piece = (ctypes.c_ulong * 2)(ctypes.addressof(memory), 1)
one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
kinds = [
    lambda pid: os.kill(pid, signal.SIGTERM),
    lambda pid: os.kill(pid, 0),
    lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    lambda pid: call("ptrace", 16, pid, None, None),
    lambda pid: call("process_vm_readv", pid, piece, one, piece, one, none),
]
{refused(lambda: kind(pid)) for kind in kinds for pid in pids}`;
    expect(await server.text(`${OTHERS}${code}`)).toBe("{'Operation not permitted'}");
  });

  test("finds no secret in command lines, its own environment or files", async ({ server }) => {
    const code = `
import subprocess
places = ["/proc/[0-9]*/cmdline", "/app", "/home", "/tmp", "/run", "/var/lib/ipybox", "/opt/ipybox/app", "/etc"]
subprocess.run(f"grep -rlsF ${SECRET} {' '.join(places)} | grep -v /proc/self", shell=True, capture_output=True, text=True).stdout`;
    // The cell itself holds the word.
    const found = (await server.text(code)).split(/\\n|'/).filter((line) => /^\/(?!proc)/.test(line));
    expect(found).toEqual([]);
    expect(await server.text("import os; [name for name in os.environ if 'GIVEN' in name]")).toBe("[]");
  });

  test("has no sockets of the internet, though its container has a network", async ({ server, image }) => {
    const attempt = `
import socket
def families():
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind).close()
                yield "made"
            except OSError as error:
                yield error.strerror
print(sorted(set(families())))`;
    expect(await server.text(attempt)).toBe("['Address family not supported by protocol']");
    expect(await image.output("python3", "-c", attempt)).toContain("made");
    const programs =
      "import subprocess; subprocess.run(['git', 'ls-remote', 'https://example.org/x'], capture_output=True).returncode";
    expect(await server.text(programs)).not.toBe("0");
  });

  test("can't change a program that others run, nor what they keep", async ({ server }) => {
    const code = `${OTHERS}
targets = ["/usr/bin/node", "/usr/local/bin/npx", "/usr/local/lib/node_modules/npm/bin/npx-cli.js", "/opt/ipybox/entrypoint",
           "/opt/ipybox/app/dist/cli/main.js", "/opt/ipybox/venv/bin/python", "/etc/passwd", "/etc/npmrc", "/root/.npmrc",
           "/home/ipybox-mcp/.npmrc", "/home/ipybox-installer/x", "/var/lib/ipybox/state/x", "/var/lib/ipybox/packages/x"]
{refused(lambda: open(path, "a")) for path in targets}`;
    expect(await server.text(code)).toBe("{'Permission denied'}");
    expect(textOf(await server.call("install_package", { package_name: "cowsay==6.1" }))).toContain("cowsay");
    const packages =
      "import cowsay, os; refused(lambda: open(cowsay.__file__, 'a')), refused(lambda: os.rename(os.path.dirname(cowsay.__file__), '/tmp/c'))";
    expect(await server.text(packages)).toMatch(
      /^\('Permission denied', '(Permission denied|Invalid cross-device link)'\)$/,
    );
  });

  test("can't have a program run by the env file that the server is started with", async ({ image, server }) => {
    writeFileSync(join(server.workspace, "planted.env"), "NODE_OPTIONS=--require=/app/workspace/planted.cjs\n");
    writeFileSync(join(server.workspace, "planted.cjs"), "console.log('planted')\n");
    const started = (options: readonly string[], ...program: string[]) =>
      run("docker", image.command(server.workspace, options, [...program, "--version", "--env-file", "planted.env"]));
    expect((await started([])).stdout).not.toContain("planted");
    const main = "/opt/ipybox/app/dist/cli/main.js";
    expect((await started(["--entrypoint", "node"], main)).stdout).toContain("planted");
  });

  test("can't have code of its own run with a network, by installing it", async ({ server }) => {
    const source = join(server.workspace, "evil");
    mkdirSync(source);
    writeFileSync(join(source, "setup.py"), "open('/tmp/built', 'w').write('x')\n");
    await server.cell("%pip install ./evil");
    expect(textOf(await server.call("install_package", { package_name: "./evil" }))).toContain("built from source");
    expect(await server.text("import os; os.path.exists('/tmp/built')")).toBe("False");
  });
});
