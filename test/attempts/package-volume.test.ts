import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { errorCodeOf, textOf } from "../helpers/client.ts";
import { docker, SessionUnderAttack, withoutWalls } from "./session-under-attack.ts";

/** What was asked of the user's index, by which a build says how far it is. */
const asked: string[] = [];
let index: Server;
let attacked: SessionUnderAttack;
beforeAll(async () => {
  index = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.writeHead(404).end();
  });
  index.listen(0, "127.0.0.1");
  await once(index, "listening");
  const { port } = index.address() as AddressInfo; // a TCP server has one
  attacked = await SessionUnderAttack.open({ args: ["--index-url", `http://127.0.0.1:${port}/simple/`] });
  await attacked.client.text(MAKE_PACKAGES);
  expect(textOf(await install("./honest-1-py3-none-any.whl"))).toContain("Installed honest 1");
});
afterAll(async () => {
  await attacked[Symbol.asyncDispose]();
  index.closeAllConnections();
  index.close();
});

const install = (package_name: string, options = {}) =>
  attacked.client.call("install_package", { package_name }, options);

/** Everything in the package volume: names, kinds, modes, contents. */
const volume = () => attacked.client.text(SNAPSHOT, { max_output_chars: 1_000_000 });

/** What a build made of its chances, one by one. */
const WRITES = ["replace", "overwrite", "chmod", "remove", "new generation", "link", "staging"] as const;

const expectUnharmed = async (before: string) => {
  expect(await volume()).toBe(before);
  await attacked.client.call("reset");
  expect(await attacked.client.text("import honest; honest.name")).toBe("'honest'");
  expect(textOf(await install("./honest-1-py3-none-any.whl"))).toMatch(/Installed honest 1|Nothing to do/);
};

describe("a build that writes where packages are, and", () => {
  test("fails, leaves them byte for byte as they were", async () => {
    const before = await volume();
    const result = await install("./vandal");
    expect(errorCodeOf(result)).toBe("install-failed");
    for (const write of WRITES) expect(textOf(result)).toContain(`${write}: refused: [Errno 30]`);
    await expectUnharmed(before);
  });

  test("is cancelled, leaves them byte for byte as they were", async () => {
    const before = await volume();
    const cancel = new AbortController();
    const cancelled = install("./lingerer", { signal: cancel.signal });
    await expect.poll(() => asked.includes("/simple/lingerer-is-done/"), { timeout: 60_000 }).toBe(true);
    cancel.abort();
    await expect(cancelled).rejects.toThrow();
    await expectUnharmed(before);
  });

  test("succeeds, adds what it built and nothing else", async () => {
    const before = new Set((await volume()).split("\n"));
    expect(textOf(await install("./thief"))).toContain("Installed thief 1");
    const added = (await volume()).split("\n").filter((line) => !before.has(line));
    const names = added.map((line) => line.split(" ")[0] ?? "").filter((name) => !/^gen-\d+\/honest/.test(name));
    expect(names.filter((name) => !/^(current|gen-\d+(\/|$)(thief|__pycache__)?)/.test(name))).toEqual([]);
    expect(await attacked.tries("import thief\nthief.here")).toBe("succeeded: True");
    expect(await attacked.tries("import honest\nhonest.name")).toBe("succeeded: 'honest'");
    for (const planted of ["sitecustomize", "numpy", "setuid"]) {
      expect(await attacked.tries(`os.path.lexists("/opt/ipybox/packages/current/${planted}")`)).toMatch(/False$/);
    }
  });

  test("leaves no scratch behind", async () => {
    const { Volumes } = await docker.listVolumes({ filters: { name: ["ipybox-scratch-"] } });
    const session = (await attacked.container().then((container) => container.inspect())).Config.Labels[
      "io.ipybox.session"
    ];
    expect(Volumes.filter(({ Name }) => Name.includes(session ?? ""))).toEqual([]);
  });
});

test("the same writes succeed where the packages are not read-only", async () => {
  const name = execFileSync("docker", ["volume", "create"], { encoding: "utf8" }).trim();
  try {
    const Mounts = [{ Type: "volume", Source: name, Target: "/opt/ipybox/packages" } as const];
    const layout = `root = pathlib.Path("/opt/ipybox/packages")
(root / "gen-1").mkdir()
(root / "gen-1" / "honest.py").write_text("")
(root / "current").symlink_to("gen-1")
exec(${JSON.stringify(VANDALISM)})
writes()`;
    const outcomes = await withoutWalls(attacked.image, layout, { Mounts });
    for (const write of WRITES) expect(outcomes).toContain(`${write}: succeeded`);
  } finally {
    await docker.getVolume(name).remove();
  }
});

const SNAPSHOT = String.raw`
import hashlib, os
def snapshot(root):
    for directory, names, files in os.walk(root):
        for name in sorted(names + files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = os.readlink(path) if os.path.islink(path) else hashlib.sha256(open(path, "rb").read()).hexdigest() if os.path.isfile(path) else ""
            yield f"{os.path.relpath(path, root)} {status.st_mode:o} {status.st_mtime_ns if os.path.isfile(path) else ''} {content}"
print("\n".join(sorted(snapshot("/opt/ipybox/packages"))))
`;

const VANDALISM = String.raw`
import os, pathlib
def writes():
    root = pathlib.Path("/opt/ipybox/packages")
    victim = root / "current" / "honest.py"
    def replace():
        (root / "current" / "new.py").write_text("evil = True")
        os.replace(root / "current" / "new.py", victim)
    def new_generation():
        (root / "gen-999").mkdir()
        (root / "gen-999" / "honest.py").write_text("name = 'evil'")
    def link():
        os.symlink("gen-999", root / "next")
        os.replace(root / "next", root / "current")
    attempts = {"overwrite": lambda: victim.open("a").write("evil = True"), "chmod": lambda: victim.chmod(0o600),
                "replace": replace, "remove": victim.unlink, "new generation": new_generation,
                "link": link, "staging": lambda: (root / ".staging-evil").mkdir()}
    outcomes = []
    for name, attempt in attempts.items():
        try:
            attempt()
            outcomes.append(f"{name}: succeeded")
        except OSError as error:
            outcomes.append(f"{name}: refused: {error}")
    return "; ".join(outcomes)
`;

/** Source trees whose builds write what they can, and then fail, linger, or leave more than a wheel. */
const MAKE_PACKAGES = String.raw`
import os, zipfile
VANDALISM = ${JSON.stringify(VANDALISM)}
WHEEL = r'''
import zipfile
def wheel(path, name, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", content)
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.dist-info/RECORD", f"{name}.py,,\n")
'''
BUILDS = {
    "vandal": '''
    raise RuntimeError(writes())
''',
    "lingerer": r'''
    import http.client, signal
    writes()
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        if line.split()[3] == "0A":
            connection = http.client.HTTPConnection("127.0.0.1", int(line.split()[1].split(":")[1], 16), timeout=5)
            connection.request("GET", "/index/0/simple/lingerer-is-done/")
            connection.getresponse()
    signal.pause()
''',
    # Besides its wheel, it leaves in the view and beside it whatever it can.
    "thief": r'''
    writes()
    import glob, subprocess
    scratch = pathlib.Path("/opt/ipybox/scratch/build")
    for site in glob.glob(str(scratch / "view/lib/python*/site-packages")):
        site = pathlib.Path(site)
        os.mkfifo(site / "fifo.py")
        (site / "link.py").symlink_to("/proc/1/environ")
        (site / "directory").symlink_to("/")
        (site / "sitecustomize.py").write_text("raise SystemExit")
        (site / "numpy").mkdir()
        (site / "numpy" / "__init__.py").write_text("evil = True")
        for info in site.glob("honest-*.dist-info"):
            (info / "METADATA").unlink()
    os.mkfifo(scratch / "view" / "fifo")
    (scratch / "view" / "sitecustomize.py").write_text("raise SystemExit")
    # A process that stays would change what is taken over while it is.
    subprocess.Popen(["sh", "-c", "while :; do echo evil >>/opt/ipybox/scratch/build/view/late.py; done"], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)
    wheel(os.path.join(directory, "thief-1-py3-none-any.whl"), "thief", "here = True")
    return "thief-1-py3-none-any.whl"
''',
}
for name, body in BUILDS.items():
    os.makedirs(name)
    open(f"{name}/pyproject.toml", "w").write(f'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "{name}"\nversion = "1"\n')
    open(f"{name}/backend.py", "w").write(VANDALISM + WHEEL + "def build_wheel(directory, config_settings=None, metadata_directory=None):" + body)
exec(WHEEL)
wheel("honest-1-py3-none-any.whl", "honest", "name = 'honest'")
`;
