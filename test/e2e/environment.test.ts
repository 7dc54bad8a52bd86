import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect } from "vitest";

import { textOf } from "../helpers/client.ts";
import { ENGINE_OF_RUN, onEngines } from "../helpers/engine-of-run.ts";
import { test } from "../helpers/session.ts";

/** What reading a masked file comes to: without a container it can't even be opened. */
const HIDDEN = ENGINE_OF_RUN === "docker" ? /^''$/ : /PermissionError/;
const PATH = "/opt/of-the-user:/usr/bin:/bin";

test.override("options", ({ directory }) => {
  const workspace = directory.make("with-env");
  writeFileSync(
    join(workspace, ".env"),
    "KERNEL_ENV_FROM_FILE=f\nSECRET_OF_FILE=s\nKERNEL_ENV_BOTH=file\nNODE_OPTIONS=--bogus\n",
  );
  writeFileSync(join(workspace, ".env.example"), "EXAMPLE=1\n");
  for (const place of ["nested/deep", "node_modules/package"])
    writeFileSync(join(directory.make(`with-env/${place}`), ".env"), "NESTED_SECRET=1\n");
  const env = {
    KERNEL_ENV_X: "from-process",
    KERNEL_ENV_BOTH: "process",
    KERNEL_ENV_PATH: PATH,
    SECRET_OF_SERVER: "s",
  };
  return { workspace, env };
});

describe("with an env file", () => {
  test("KERNEL_ENV_X arrives as X, from either source, the process winning", async ({ client }) => {
    expect(await client.text("import os; [os.environ[n] for n in ('X', 'FROM_FILE', 'BOTH')]")).toBe(
      "['from-process', 'f', 'process']",
    );
  });

  test("KERNEL_ENV_PATH overrides PATH", async ({ client }) => {
    expect(await client.text("import os; os.environ['PATH']")).toBe(`'${PATH}'`);
  });

  test("no other variable of the server arrives, under any name", async ({ client }) => {
    const names = JSON.parse(await client.text("import json, os; print(json.dumps(sorted(os.environ)))")) as string[];
    const ofImage = ["PATH", "HOME", "USER", "LANG"];
    const ofPlace = ENGINE_OF_RUN === "docker" ? [] : ["TMPDIR", "IPYBOX_TOOLS"]; // where things are, without a container
    expect(names.sort()).toEqual([...ofImage, ...ofPlace, "X", "FROM_FILE", "BOTH"].sort());
  });

  onEngines(["docker"], () => {
    test("env files read as empty at every depth and under both paths, and can't be written", async ({ client }) => {
      const paths = [".env", "nested/deep/.env", "node_modules/package/.env", "/workspace/.env"];
      expect(await client.text(`[open(path).read() for path in ${JSON.stringify(paths)}]`)).toBe("['', '', '', '']");
      const refused = /Read-only file system|Permission denied/; // the second under gVisor
      expect(textOf(await client.cell("open('.env', 'w')"))).toMatch(refused);
      expect(await client.text("open('.env.example').read()")).toBe("'EXAMPLE=1\\n'");
    });
  });

  onEngines(["srt"], () => {
    test("env files can't be opened, at any depth", async ({ client }) => {
      for (const path of [".env", "nested/deep/.env", "node_modules/package/.env"]) {
        for (const mode of ["r", "a"])
          expect(textOf(await client.cell(`open('${path}', '${mode}')`))).toContain("PermissionError");
      }
      expect(await client.text("open('.env.example').read()")).toBe("'EXAMPLE=1\\n'");
    });
  });

  test("a changed env file applies at reset", async ({ client }) => {
    writeFileSync(join(client.workspace, ".env"), "KERNEL_ENV_FROM_FILE=changed\n");
    await client.call("reset");
    expect(await client.text("import os; os.environ['FROM_FILE']")).toBe("'changed'");
  });
});

onEngines(["docker"], () => {
  test("an empty .env is made where there was none, for as long as the session lasts", async ({
    connect,
    directory,
  }) => {
    const workspace = directory.make("without-env");
    await using client = await connect({ workspace });
    expect(await client.text("open('.env').read()")).toBe("''");
    const placeholder = statSync(join(workspace, ".env"));
    expect([placeholder.size, placeholder.mode & 0o777, placeholder.uid]).toEqual([0, 0o600, statSync(workspace).uid]);
    expect((await client.cell("open('.env', 'w').write('PLANTED=1')")).isError).toBe(true);
    await client[Symbol.asyncDispose]();
    await expect.poll(() => existsSync(join(workspace, ".env")), { timeout: 5000 }).toBe(false);
  });
});

onEngines(["docker", "srt"], () => {
  test("protected paths are read-only, others of the workspace are not", async ({ connect, directory }) => {
    const workspace = directory.make("protected");
    writeFileSync(join(directory.make("protected/.git"), "config"), "[core]\n");
    writeFileSync(join(directory.make("protected/packages/inner/.git"), "config"), "[core]\n");
    writeFileSync(join(workspace, "CLAUDE.md"), "as it was");
    await using client = await connect({ workspace });
    const failing = (code: string) => client.cell(code).then((result) => result.isError);
    expect(await failing("open('.git/hooks', 'w')")).toBe(true);
    expect(await failing("open('packages/inner/.git/config', 'a')")).toBe(true);
    expect(await failing("open('CLAUDE.md', 'w')")).toBe(true);
    expect(await failing("open('/workspace/CLAUDE.md', 'w')")).toBe(true);
    expect(await client.text("open('packages/inner/free.txt', 'w').write('x')")).toBe("1");
    expect(readFileSync(join(workspace, "CLAUDE.md"), "utf8")).toBe("as it was");
  });

  test("the sandbox reaches no address", async ({ connect, directory }) => {
    await using client = await connect({ workspace: directory.make("offline") });
    for (const url of [
      "http://1.1.1.1",
      "https://pypi.org",
      "http://169.254.169.254/latest/meta-data",
      "http://172.17.0.1",
    ]) {
      const result = await client.cell(
        `import urllib.request\nurllib.request.urlopen(${JSON.stringify(url)}, timeout=5)`,
      );
      expect(textOf(result)).toContain("URLError");
    }
    if (ENGINE_OF_RUN === "docker") expect(await client.text("import os; os.listdir('/sys/class/net')")).toBe("['lo']");
  });

  test("a mount is there read-only at its own path, or writable where it is said to be", async ({
    connect,
    directory,
  }) => {
    const [readOnly, writable] = [directory.make("data-ro"), directory.make("data-rw")];
    writeFileSync(join(readOnly, "file.txt"), "content");
    const elsewhere = ENGINE_OF_RUN === "docker" ? "/data" : writable; // there is nowhere else without a container
    const args = ["--mount", readOnly, "--mount", `${writable}:${elsewhere}:rw`];
    await using client = await connect({ workspace: directory.make("mounting"), args });
    expect(await client.text(`open(${JSON.stringify(join(readOnly, "file.txt"))}).read()`)).toBe("'content'");
    expect((await client.cell(`open(${JSON.stringify(join(readOnly, "new.txt"))}, 'w')`)).isError).toBe(true);
    await client.text(`open('${elsewhere}/new.txt', 'w').write('x')`);
    expect(readFileSync(join(writable, "new.txt"), "utf8")).toBe("x");
  });

  test("an env file that --env-file names in the workspace is hidden as .env is, and used", async ({
    connect,
    directory,
  }) => {
    const workspace = directory.make("named");
    const path = join(directory.make("named/config"), "keys");
    writeFileSync(path, "KERNEL_ENV_GIVEN=from the file\nSECRET=1\n");
    await using client = await connect({ workspace, args: ["--env-file", path] });
    expect(await client.text("import os; os.environ['GIVEN']")).toBe("'from the file'");
    expect(textOf(await client.cell("open('config/keys').read()"))).toMatch(HIDDEN);
    for (const code of ["os.rename('config', 'moved')", "os.unlink('config/keys')"])
      expect((await client.cell(code)).isError).toBe(true);
  });
});
