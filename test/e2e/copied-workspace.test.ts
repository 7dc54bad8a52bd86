import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import Docker from "dockerode";
import { describe, expect } from "vitest";

import { TestClient, textOf, upstream } from "../helpers/client.ts";
import { test as baseTest } from "../helpers/session.ts";

/** The engine does not see what is mounted here: `hidden` is another directory for it, `hidden/workspace` is none. */
const WRAPPER = `#!/bin/sh
exec unshare -m sh -c 'mount -t tmpfs -o mode=755 tmpfs "$HIDDEN" && mkdir -p "$PLACE" && cp -a "$SEED/." "$PLACE" && exec "$BIN" "$@"' sh "$@"
`;
const OWNER = 1234;

/** A session in a workspace with these files, which the engine can't mount. */
const test = baseTest.extend(
  "open",
  { scope: "file" },
  ({ bin, directory }) =>
    async (name: string, files: Readonly<Record<string, string>> = {}, place = "workspace") => {
      const wrapper = join(directory.path, "wrapper");
      writeFileSync(wrapper, WRAPPER);
      chmodSync(wrapper, 0o755);
      const seed = directory.make(`${name}-seed`);
      chownSync(seed, OWNER, OWNER);
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(join(seed, path, ".."), { recursive: true });
        writeFileSync(join(seed, path), content);
        chownSync(join(seed, path), OWNER, OWNER);
      }
      const hidden = directory.make(name);
      const workspace = join(hidden, place);
      const env = { HIDDEN: hidden, SEED: seed, PLACE: workspace, BIN: bin };
      const client = await TestClient.connect({ bin: wrapper, directory, workspace, env });
      const at = (path: string) => `/proc/${client.transport.pid ?? ""}/root${workspace}/${path}`;
      const read = (path: string) => readFileSync(at(path), "utf8");
      return Object.assign(client, { at, read });
    },
);

/** Mounting needs root. */
describe.runIf(process.getuid?.() === 0)("a workspace that the engine does not have", () => {
  test("is copied: both sides see what the other did", async ({ open }) => {
    await using client = await open("both", { "a/b.txt": "from the host", "run.sh": "#!/bin/sh\n" });
    expect(await client.text("import os, pathlib; os.getcwd()")).toBe(`'${client.workspace}'`);
    expect(await client.text("pathlib.Path('a/b.txt').read_text(), pathlib.Path('/workspace/a/b.txt').exists()")).toBe(
      "('from the host', True)",
    );
    await client.text(
      "pathlib.Path('c/d').mkdir(parents=True); _ = pathlib.Path('c/d/e.txt').write_text('from a cell')",
    );
    expect(client.read("c/d/e.txt")).toBe("from a cell");
    expect(statSync(client.at("c/d/e.txt"))).toMatchObject({ uid: OWNER, gid: OWNER, mode: 0o100644 });
    writeFileSync(client.at("c/d/e.txt"), "edited");
    writeFileSync(client.at("new.txt"), "new");
    expect(await client.text("pathlib.Path('c/d/e.txt').read_text() + pathlib.Path('new.txt').read_text()")).toBe(
      "'editednew'",
    );
    await client.text(
      "os.unlink('new.txt'); os.rename('a', 'z'); os.chmod('run.sh', 0o755); os.symlink('z/b.txt', 'l')",
    );
    expect(existsSync(client.at("new.txt"))).toBe(false);
    expect(existsSync(client.at("a"))).toBe(false);
    expect(client.read("z/b.txt")).toBe("from the host");
    expect(client.read("l")).toBe("from the host");
    expect(statSync(client.at("run.sh")).mode & 0o777).toBe(0o755);
  });

  test("is copied where the engine has another directory at its path, too", async ({ open }) => {
    await using client = await open("another", { "x.txt": "from the host" }, ".");
    expect(await client.text("open('x.txt').read()")).toBe("'from the host'");
  });

  test("keeps what both sides changed, hides what is masked, and says what stays in the sandbox", async ({ open }) => {
    await using client = await open("conflicts", { "both.txt": "1", ".env": "SECRET=1", ".git/config": "[core]" });
    expect(await client.text("import os, pathlib, time; sorted(os.listdir())")).toBe("['both.txt']");
    const changes = `
print("running", flush=True)
time.sleep(1)
pathlib.Path('both.txt').write_text('by the cell')
pathlib.Path('.env').write_text('PLANTED=1')
pathlib.Path('.git/hooks').mkdir(parents=True)
pathlib.Path('.git/hooks/pre-commit').write_text('#!')
os.symlink('/etc/passwd', 'out')
os.mkfifo('pipe')
os.mkdir('closed')
os.chmod('closed', 0)
os.truncate(os.open('sparse', os.O_CREAT | os.O_WRONLY), 100 * 2**30)
`;
    const edit = () => writeFileSync(client.at("both.txt"), "by the user");
    const text = textOf(await client.cell(changes, {}, { onProgress: edit }));
    expect(text).toContain(
      "[Changed on the host and in the cell: both.txt. The host's was kept; the cell's is both.txt.from-sandbox]",
    );
    expect(text).toMatch(/masked or protected\): .*\.git\/hooks\/pre-commit/);
    expect(text).toContain("a link that leads out of the workspace): out]");
    expect(text).toContain("neither file, directory nor link): pipe]");
    expect(text).toContain("more than 1 GiB): sparse]");
    expect(text).toContain("(not readable): closed]");
    expect(text).not.toContain("too many files");
    expect(client.read("both.txt")).toBe("by the user");
    expect(client.read("both.txt.from-sandbox")).toBe("by the cell");
    expect(client.read(".env")).toBe("SECRET=1");
    expect(existsSync(client.at(".git/hooks"))).toBe(false);
    expect(await client.text("pathlib.Path('both.txt').read_text()")).toBe("'by the user'");
  });

  test("is told of where the gateway was stopped, and the next cell works", async ({ open }) => {
    await using client = await open("stopped");
    const result = await client.cell(
      "import os, pathlib, signal, time\n" +
        "for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n" +
        "    if b'ipybox_sandbox.gateway' in path.read_bytes(): os.kill(int(path.parent.name), signal.SIGSTOP)\n" +
        "time.sleep(60)",
      { timeout: 1 },
    );
    expect(textOf(result)).toBe(
      "[Timed out after 1 s: the sandbox was replaced; variables are lost]\n" +
        "[Not every file that this cell changed was copied to the host: the others are lost with the sandbox]",
    );
    expect(await client.text("1 + 1")).toBe("2");
  });

  test("takes large files and many of them", async ({ open }) => {
    await using client = await open("large");
    await client.text(`
import os, pathlib, hashlib
data = os.urandom(50_000_000)
_ = pathlib.Path('large').write_bytes(data)
os.mkdir('many')
for n in range(1000): pathlib.Path(f'many/{n}').write_text(str(n))
`);
    const hash = createHash("sha256")
      .update(readFileSync(client.at("large")))
      .digest("hex");
    expect(await client.text("hashlib.sha256(data).hexdigest()")).toBe(`'${hash}'`);
    expect(readdirSync(client.at("many"))).toHaveLength(1000);
    expect(client.read("many/999")).toBe("999");
    copyFileSync(client.at("large"), client.at("copy"));
    expect(await client.text("pathlib.Path('copy').read_bytes() == data")).toBe("True");
  });

  test("has the generated API on the host, and its packages can be installed", async ({ open }) => {
    const project =
      "[project]\nname = 'local-thing'\nversion = '1'\n[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n";
    await using client = await open("api", {
      "thing/pyproject.toml": project,
      "thing/local_thing.py": "answer = 42\n",
    });
    const server = upstream("everything");
    const registered = await client.call("register_mcp_server", { server_name: "everything", server_params: server });
    expect(registered.isError ?? false, `${textOf(registered)}\n${client.stderr}`).toBe(false);
    expect(client.read("mcptools/everything/echo.py")).toContain("class Params");
    expect(await client.text("from mcptools.everything.echo import Params, run\nrun(Params(message='x'))")).toContain(
      "x",
    );
    const installed = await client.call("install_package", { package_name: "./thing" });
    expect(installed.isError ?? false, textOf(installed)).toBe(false);
    expect(await client.text("import local_thing; local_thing.answer")).toBe("42");
  });

  test("leaves no volume behind", async ({ open }) => {
    const works = async () => (await new Docker().listVolumes({ filters: { label: ["io.ipybox.owner"] } })).Volumes;
    let mine: string[];
    {
      await using client = await open("volume");
      await client.text("1");
      const owner = `:${client.transport.pid ?? ""}:`;
      mine = (await works()).filter(({ Labels }) => Labels["io.ipybox.owner"]?.includes(owner)).map(({ Name }) => Name);
      expect(mine).toHaveLength(1);
    }
    expect((await works()).map(({ Name }) => Name)).not.toContain(mine[0]);
  });
});
