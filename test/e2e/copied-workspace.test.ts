import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect } from "vitest";

import { TestClient } from "../helpers/client.ts";
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
});
