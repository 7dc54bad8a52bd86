import { chown, mkdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { currentProcess, formatIdentity } from "../../../src/common/process-identity.ts";
import type { Sandbox, SandboxSpec } from "../../../src/sandbox/engine.ts";
import { type DockerUnderTest, docker, GID, makeDockerUnderTest, runInside, UID } from "./docker-harness.ts";

const signal = new AbortController().signal;
let subject: DockerUnderTest;
beforeAll(async () => {
  subject = await makeDockerUnderTest();
  await subject.engine.prepare({ signal, onProgress: () => undefined });
}, 900_000);
afterAll(() => subject[Symbol.asyncDispose]());

const launch = (spec: SandboxSpec) =>
  subject.engine.launch(spec, { signal, onBridgeConnection: (stream) => stream.destroy() });
const shell = async (sandbox: Sandbox, script: string) =>
  (await runInside(sandbox, ["sh", "-c", `cd ${sandbox.workspacePath}; ${script}`])).output.trim();

describe("a container of a session", () => {
  let sandbox: Sandbox;
  let spec: SandboxSpec;
  beforeAll(async () => {
    spec = await subject.newSpec();
    sandbox = await launch(spec);
  });
  afterAll(() => sandbox[Symbol.asyncDispose]());

  it.each([
    ["runs as the workspace's user", "id -u; id -g", `${UID}\n${GID}`],
    ["has no capability, not even in its bounding set", "grep CapBnd /proc/self/status", "CapBnd:\t0000000000000000"],
    ["can gain no privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"],
    ["runs under a seccomp filter", "grep Seccomp: /proc/self/status", "Seccomp:\t2"],
    ["has no network interface but the loopback", "ls /sys/class/net", "lo"],
    ["is called ipybox", "hostname", "ipybox"],
    ["can't write outside its directories", "touch /usr/x /etc/x /opt/ipybox/x 2>&1 | grep -c 'Read-only'", "3"],
    ["can't write to the package volume", "touch /opt/ipybox/packages/x 2>&1 | grep -c 'Read-only'", "1"],
    ["can't make sockets of its own beside ours", "touch /run/ipybox/x 2>&1 | grep -c 'Read-only'", "1"],
    ["may run programs in /tmp", "cp /bin/true /tmp/t && /tmp/t && echo ran", "ran"],
    ["may run programs in its home", "cp /bin/true ~/t && ~/t && echo ran", "ran"],
    ["has a home of its own", "stat -c %u:%g ~", `${UID}:${GID}`],
    ["has a bounded /tmp", "df --output=size -B1 /tmp | tail -1", `${64 * 1024 ** 2}`],
    ["has the workspace at both places", "touch here; ls /workspace", "here"],
    ["writes no core files", "ulimit -c", "0"],
  ])("%s", async (_what, script, expected) => {
    expect(await shell(sandbox, script)).toBe(expected);
  });

  it("starts in the workspace, whose own path it has even below /tmp", async () => {
    expect(sandbox.workspacePath).toBe(spec.workspace.path);
    expect((await docker.getContainer(`ipybox-${sandbox.id}`).inspect()).Config.WorkingDir).toBe(spec.workspace.path);
  });

  it("makes files that belong to the user", async () => {
    await shell(sandbox, "echo hi > made; mkdir -p /workspace/deep");
    for (const name of ["made", "deep"]) {
      const found = await stat(join(spec.workspace.path, name));
      expect([found.uid, found.gid]).toEqual([UID, GID]);
    }
  });

  it("shows no secret of the server in its configuration", async () => {
    const { Config } = await docker.getContainer(`ipybox-${sandbox.id}`).inspect();
    expect(Config.Env.map((entry) => entry.split("=")[0]).sort()).toEqual(["HOME", "LANG", "PATH", "USER"]);
  });
});

describe("what the engine says of a session's container", () => {
  it("is what spec and documentation say, setting by setting", async () => {
    const workspace = await subject.makeWorkspace();
    await mkdir(join(workspace.path, ".git"));
    await writeFile(join(workspace.path, ".env"), "KEY=1");
    const spec = await subject.newSpec({
      workspace: { ...workspace, masked: [join(workspace.path, ".env")], protected: [join(workspace.path, ".git")] },
    });
    await using sandbox = await launch(spec);
    const found = await docker.getContainer(`ipybox-${sandbox.id}`).inspect();
    const { Config, HostConfig, Mounts, Name } = found;
    const options = HostConfig as typeof HostConfig & { readonly MaskedPaths?: readonly string[] };
    const mounted = Mounts.map(({ Destination, RW, Type }) => `${Destination} ${RW ? "rw" : "ro"} ${Type}`).sort();
    const tmpfs = Object.entries(HostConfig.Tmpfs ?? {});
    const sources = Mounts.filter(({ Type }) => Type === "bind").map(({ Source }) => Source);
    const inWorkspace = ["", "/.env", "/.git"].map((name) => workspace.path + name);
    const rows: readonly Row[] = [
      ["NetworkMode", HostConfig.NetworkMode, "none", "nothing but a loopback of its own"],
      ["CapDrop", HostConfig.CapDrop, ["ALL"], "not even root inside has a power"],
      ["CapAdd", HostConfig.CapAdd ?? [], [], "and none is given back"],
      ["Privileged", HostConfig.Privileged, false, "devices and profiles stay as they are"],
      ["SecurityOpt", HostConfig.SecurityOpt, ["no-new-privileges"], "no setuid program helps; default seccomp holds"],
      ["seccomp filters", await shell(sandbox, "awk '/Seccomp_filters/{print $2}' /proc/1/status"), "2", "ours on it"],
      ["ReadonlyRootfs", HostConfig.ReadonlyRootfs, true, "the image can't be changed from inside"],
      ["MaskedPaths", (options.MaskedPaths ?? []).includes("/proc/kcore"), true, "the engine's masks of /proc hold"],
      ["PidMode", HostConfig.PidMode, "", "its own processes only"],
      ["IpcMode", HostConfig.IpcMode, "private", "its own shared memory only"],
      ["UTSMode", HostConfig.UTSMode, "", "its own hostname only"],
      ["UsernsMode", HostConfig.UsernsMode, "", "what the engine does by default"],
      ["Devices", HostConfig.Devices ?? [], [], "none of the host's"],
      ["Tmpfs /tmp", HostConfig.Tmpfs?.["/tmp"], expect.stringMatching(/\bexec\b.*size=67108864/), "people compile"],
      ["Tmpfs home", HostConfig.Tmpfs?.["/home/ipybox"], expect.stringMatching(/\bexec\b.*size=67108864/), "likewise"],
      [
        "Tmpfs",
        tmpfs.map(([path]) => path).sort(),
        ["/home/ipybox", "/run/ipybox-kernels", "/tmp"],
        "no other is there",
      ],
      ["Tmpfs modes", tmpfs.filter(([, mode]) => !mode.includes("nosuid,nodev")), [], "nothing in them gives rights"],
      ["Memory", HostConfig.Memory, 1024 ** 3, "--memory"],
      ["MemorySwap", HostConfig.MemorySwap, 1024 ** 3, "no swap beyond it"],
      ["NanoCpus", HostConfig.NanoCpus, expect.any(Number), "--cpus, at most what the engine has"],
      ["PidsLimit", HostConfig.PidsLimit, 256, "--pids, against fork bombs"],
      [
        "Ulimits",
        HostConfig.Ulimits?.map(({ Name: name, Hard }) => `${name}=${Hard}`).sort(),
        ["core=0", "nofile=16384"],
        "no cores",
      ],
      ["LogConfig", HostConfig.LogConfig, { Type: "json-file", Config: { "max-file": "1", "max-size": "1m" } }, "1 MB"],
      ["AutoRemove", HostConfig.AutoRemove, true, "it goes with its last process"],
      ["Init", HostConfig.Init, false, "PID 1 is our own init, which can't be stopped"],
      [
        "Entrypoint",
        Config.Entrypoint,
        expect.arrayContaining(["-I", "ipybox_sandbox.init"]),
        "nothing of a cell's is imported",
      ],
      ["PortBindings", HostConfig.PortBindings ?? {}, {}, "nobody can connect to it"],
      ["VolumesFrom", HostConfig.VolumesFrom ?? [], [], "no mount but those below"],
      ["Hostname", Config.Hostname, "ipybox", "says nothing of the host"],
      ["User", Config.User, `${UID}:${GID}`, "files belong to the user"],
      ["Env", Config.Env.map((entry) => entry.split("=")[0]).sort(), ["HOME", "LANG", "PATH", "USER"], "the image's"],
      ["Cmd", [Config.Cmd].flat().filter(Boolean), [], "what to do is said over the lifeline"],
      ["OpenStdin", Config.OpenStdin, false, "no way in"],
      ["Name", Name, `/ipybox-${spec.sessionId}`, "ipybox ps, and people"],
      [
        "Labels",
        Object.entries(Config.Labels)
          .filter(([name]) => !name.startsWith("io.ipybox.image"))
          .sort(),
        [
          ["io.ipybox.owner", formatIdentity(currentProcess())],
          ["io.ipybox.role", "session"],
          ["io.ipybox.session", spec.sessionId],
          ["io.ipybox.workspace", workspace.path],
        ],
        "whose it is, and whether that one lives",
      ],
      [
        "Mounts",
        mounted,
        [
          ...inWorkspace
            .concat("/workspace", "/workspace/.env", "/workspace/.git")
            .map((path) => (/\.(env|git)$/.test(path) ? `${path} ro bind` : `${path} rw bind`)),
          "/run/ipybox ro bind",
          "/opt/ipybox/packages ro volume",
        ].sort(),
        "never the engine's socket, never our state",
      ],
      [
        "Mount sources elsewhere",
        sources.filter((path) => !path.startsWith(workspace.path) && !path.startsWith(subject.runtimeDir)),
        [],
        "what was checked, and the session's sockets",
      ],
      [
        "Propagation",
        [...new Set(Mounts.map((mount) => mount.Propagation))].sort(),
        ["", "rprivate"],
        "no mount comes later",
      ],
    ];
    console.log(rows.map(([setting, value, , why]) => `${setting} = ${JSON.stringify(value)}  (${why})`).join("\n"));
    for (const [setting, value, expected] of rows) expect({ [setting]: value }).toEqual({ [setting]: expected });
  });
});

/** Setting, value, what it must be, why. */
type Row = readonly [setting: string, value: unknown, expected: unknown, why: string];

describe.each(["socket", "exec"] as const)("masks and protections over the %s link", (link) => {
  let linked: DockerUnderTest;
  let sandbox: Sandbox;
  beforeAll(async () => {
    linked = await makeDockerUnderTest({ link });
    const workspace = await linked.makeWorkspace();
    const at = (name: string) => join(workspace.path, name);
    await mkdir(at("sub"));
    await mkdir(at(".git"));
    for (const name of [".env", "sub/.env", ".git/config", "CLAUDE.md"]) await writeFile(at(name), "SECRET=1");
    // Nothing but the mounts is in the way.
    for (const name of ["sub", ".git", ".env", "sub/.env", ".git/config", "CLAUDE.md"]) await chown(at(name), UID, GID);
    const masked = [at(".env"), at("sub/.env")];
    const spec = await linked.newSpec({
      workspace: { ...workspace, masked, protected: [at(".git"), at("CLAUDE.md")] },
    });
    sandbox = await linked.engine.launch(spec, { signal, onBridgeConnection: (stream) => stream.destroy() });
  });
  afterAll(async () => {
    await sandbox[Symbol.asyncDispose]();
    await linked[Symbol.asyncDispose]();
  });

  for (const place of [".", "/workspace"]) {
    it.each([
      ["masked files read as empty", "cat .env sub/.env; echo done", "done"],
      ["masked files are plain files that nobody can write", "stat -c '%F %a' sub/.env", "regular empty file 444"],
      [
        "masked files can't be written",
        "for name in .env sub/.env; do (echo x >>$name) 2>&1; done | grep -cE 'Read-only|Permission denied'",
        "2",
      ],
      ["masked files can't be removed", "rm -f .env 2>&1 | grep -c busy", "1"],
      ["masked files can't be renamed", "mv -f sub/.env moved-file 2>&1 | grep -c busy", "1"],
      ["protected directories can be read", "cat .git/config", "SECRET=1"],
      ["protected directories can't be written", "touch .git/hooks 2>&1 | grep -c Read-only", "1"],
      ["protected directories can't be renamed", "mv -f .git moved-directory 2>&1 </dev/null | grep -c busy", "1"],
      ["protected files can't be written", "(echo x >> CLAUDE.md) 2>&1 | grep -c Read-only", "1"],
    ])(`at ${place}: %s`, async (_what, script, expected) => {
      const output = await shell(sandbox, `cd ${place}; ${script}`);
      expect(output.split("\n").at(-1)).toBe(expected);
    });
  }
});

describe("the directories on the way to a mask or a protection", () => {
  const build = async (shielded: boolean) => {
    const workspace = await subject.makeWorkspace();
    const at = (name: string) => join(workspace.path, name);
    await mkdir(at("a/b/.git"), { recursive: true });
    await mkdir(at("env"));
    await writeFile(at("env/.env"), "SECRET=1");
    for (const name of ["a", "a/b", "a/b/.git", "env", "env/.env"]) await chown(at(name), UID, GID);
    const shields = shielded ? { masked: [at("env/.env")], protected: [at("a/b/.git")] } : {};
    return await launch(await subject.newSpec({ workspace: { ...workspace, ...shields } }));
  };
  const moves = ["a x", "a/b x", "env x"];

  it("can't be renamed or replaced from inside, at either place", async () => {
    await using sandbox = await build(true);
    for (const place of [".", "/workspace"]) {
      for (const move of moves) {
        expect(await shell(sandbox, `cd ${place}; mv ${move} 2>&1`)).toMatch(/Device or resource busy/);
        expect(await shell(sandbox, `cd ${place}; mkdir -p y; mv -T y ${move.split(" ")[0] ?? ""} 2>&1`)).toMatch(
          /busy|not empty/,
        );
      }
    }
    expect(await shell(sandbox, "touch a/new a/b/new env/new && ls a a/b env | grep -c new; cat env/.env")).toBe("3");
  });

  it("could be, were they not bound onto themselves", async () => {
    for (const move of moves) {
      await using sandbox = await build(false);
      expect(await shell(sandbox, `mv ${move} && echo moved`)).toBe("moved");
    }
  });
});

describe("a directory that a cell replaced by a link before it was mounted", () => {
  it.each([
    ["leads to a protected path elsewhere", { protected: ["a/.git"], masked: [] }],
    ["leads to a masked file elsewhere", { protected: [], masked: ["a/.env"] }],
  ])("is noticed before anything runs: it %s", async (_what, shields) => {
    const [workspace, elsewhere] = [await subject.makeWorkspace(), await subject.makeWorkspace()];
    await mkdir(join(elsewhere.path, ".git"));
    await writeFile(join(elsewhere.path, ".env"), "");
    await symlink(elsewhere.path, join(workspace.path, "a"));
    const [masked, shielded] = [shields.masked, shields.protected].map((paths) =>
      paths.map((path) => join(workspace.path, path)),
    );
    const spec = await subject.newSpec({
      workspace: { ...workspace, masked: masked ?? [], protected: shielded ?? [] },
    });
    await expect(launch(spec)).rejects.toMatchObject({
      code: "sandbox-start-failed",
      message: expect.stringMatching(/a in the workspace was replaced while the sandbox was made/) as string,
    });
  });
});

describe("a paused sandbox", () => {
  it("stands still at once, and can be removed", async () => {
    const spec = await subject.newSpec();
    const sandbox = await launch(spec);
    await sandbox.pause();
    expect((await docker.getContainer(`ipybox-${sandbox.id}`).inspect()).State.Paused).toBe(true);
    await sandbox.pause();
    await sandbox[Symbol.asyncDispose]();
    await sandbox.pause();
    expect(await subject.leftovers()).toEqual([]);
  });
});

describe("extra mounts", () => {
  it("are read-only unless told otherwise", async () => {
    const [data, results] = [await subject.makeWorkspace(), await subject.makeWorkspace()];
    await using sandbox = await launch(
      await subject.newSpec({
        mounts: [
          { source: data.path, target: "/data", readOnly: true },
          { source: results.path, target: "/results", readOnly: false },
        ],
      }),
    );
    expect(await shell(sandbox, "touch /data/x 2>&1 | grep -c Read-only; touch /results/x && ls /results")).toBe(
      "1\nx",
    );
  });
});
