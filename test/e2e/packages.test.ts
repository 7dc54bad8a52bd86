import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import Docker from "dockerode";
import { describe, expect } from "vitest";

import { baseEnvironment, errorCodeOf, type TestClient, textOf } from "../helpers/client.ts";
import { BUILDS, onEngines } from "../helpers/engine-of-run.ts";
import { test } from "../helpers/session.ts";

const install = (client: TestClient, package_name: string) => client.call("install_package", { package_name });

if (BUILDS) {
  test("build --requirements bakes packages into an image, which sessions with --requirements have", async ({
    bin,
    connect,
    directory,
  }) => {
    const file = join(directory.make("requirements"), "requirements.txt");
    writeFileSync(file, "toolz==1.0.0\n");
    const workspace = directory.make("baked");
    const options = { env: baseEnvironment(directory), cwd: workspace };
    const { stdout } = await promisify(execFile)(bin, ["build", "--requirements", file], options);
    try {
      await using client = await connect({ workspace, args: ["--requirements", file] });
      expect(await client.text("import toolz; toolz.__version__, toolz.__file__")).toMatch(
        /^\('1\.0\.0', '\/opt\/ipybox\/venv\//,
      );
    } finally {
      await new Docker().getImage(stdout.trim()).remove({ force: true });
    }
  }, 900_000);
}

describe("install_package", () => {
  test("installs what the kernel sees at once, and keeps it over reset and for later sessions", async ({
    client,
    connect,
  }) => {
    expect(textOf(await client.cell("import cowsay"))).toContain("ModuleNotFoundError");
    const pieces: string[] = [];
    const options = { onProgress: (message: string) => pieces.push(message) };
    const installed = await client.call("install_package", { package_name: "cowsay==6.1" }, options);
    expect(textOf(installed)).toContain("Installed cowsay 6.1");
    expect(pieces.join("")).toContain("cowsay==6.1");
    expect(await client.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
    await client.call("reset");
    expect(await client.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
    await using later = await connect({ workspace: client.workspace });
    expect(await later.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
  });

  test.for([
    ["a wheel with compiled code, in a range of versions", "ujson>=5,<6", "ujson.dumps([1])", "'[1]'"],
    [
      "an extra of a package of the image",
      "requests[socks]",
      "import importlib.metadata as m; m.version('pysocks')[:2]",
      "'1.'",
    ],
    ["a source archive, by its own build", "docopt==0.6.2", "docopt.__version__", "'0.6.2'"],
    ["what the image has", "numpy>=1", "numpy.__name__", "'numpy'"],
  ] as const)("installs %s", async ([, requirement, code, expected], { client }) => {
    const result = await install(client, requirement);
    expect(result.isError ?? false, textOf(result)).toBe(false);
    const [name = ""] = /^\w+/.exec(requirement) ?? [];
    expect(await client.text(`import ${name}; ${code}`)).toBe(expected);
  });

  test("by two servers of a workspace at once is done one after the other, and each sees both", async ({
    connect,
    directory,
  }) => {
    const workspace = directory.make("shared");
    await using one = await connect({ workspace });
    await using other = await connect({ workspace });
    const answers = await Promise.all([install(one, "iniconfig==2.1.0"), install(other, "toolz==1.0.0")]);
    expect(answers.map(textOf)).toEqual([
      expect.stringContaining("Installed iniconfig 2.1.0"),
      expect.stringContaining("Installed toolz 1.0.0"),
    ]);
    for (const client of [one, other])
      expect(await client.text("import iniconfig, toolz; toolz.__version__")).toBe("'1.0.0'");
  });

  test("installs a wheel and a source archive of the workspace", async ({ client }) => {
    await client.text(MAKE_ARCHIVES);
    for (const [archive, version] of [
      ["./local-1-py3-none-any.whl", 1],
      ["./local-2.tar.gz", 2],
    ] as const) {
      expect(textOf(await install(client, archive))).toContain(`Installed local ${version}`);
      await client.call("reset");
      expect(await client.text("import local; local.version")).toBe(String(version));
    }
  });

  onEngines(["docker"], () => {
    // Only root may write there. The image has a /run of its own.
    test.runIf(process.getuid?.() === 0)(
      "installs what is in a workspace that is at /workspace alone in the sandbox",
      async ({ connect }) => {
        const workspace = mkdtempSync("/run/test-workspace-");
        try {
          await using client = await connect({ workspace });
          expect(await client.text(`${MAKE_ARCHIVES}\nos.getcwd()`)).toBe("'/workspace'");
          expect(textOf(await install(client, "./local-1-py3-none-any.whl"))).toContain("Installed local 1");
          expect(textOf(await install(client, `${workspace}/local-2`))).toContain("Installed local 2");
          expect(await client.text("%pip install /workspace/local-1-py3-none-any.whl")).toContain("Installed local 1");
          await client.call("reset");
          expect(await client.text("import local; local.version")).toBe("1");
          expect(await client.text("%pip install /workspace/local-2")).toContain("Installed local 2");
          await client.call("reset");
          expect(await client.text("import local; local.version")).toBe("2");
        } finally {
          rmSync(workspace, { recursive: true });
        }
      },
    );

    test("says of a build that needs a compiler that there is none", async ({ client }) => {
      await client.text(MAKE_EXTENSION);
      const result = await install(client, "./compiled");
      expect(errorCodeOf(result)).toBe("install-failed");
      expect(textOf(result)).toMatch(/--base-image/);
    });
  });

  onEngines(["docker", "srt"], () => {
    test("leaves the session as offline as it was", async ({ connect, directory }) => {
      await using client = await connect({ workspace: directory.make("offline") });
      const reach = () => client.cell("import urllib.request; urllib.request.urlopen('https://pypi.org', timeout=5)");
      expect(textOf(await reach())).toContain("URLError");
      expect(textOf(await install(client, "iniconfig==2.1.0"))).toContain("Installed iniconfig 2.1.0");
      expect(textOf(await reach())).toContain("URLError");
    });
  });

  test.for([
    ["a package that does not exist", "no-such-package-of-the-test-xyz", "install-failed"],
    ["a version that does not exist", "cowsay==999", "install-failed"],
    ["a package of the image in another version", "numpy<2", "install-failed"],
    ["an option", "--index-url=http://127.0.0.1/ x", "invalid-requirement"],
    ["two packages at once", "a b", "invalid-requirement"],
    ["nothing", "", "invalid-requirement"],
    ["a path outside the workspace", "/etc", "invalid-requirement"],
  ] as const)("refuses %s with a reason", async ([, requirement, code], { client }) => {
    const result = await install(client, requirement);
    expect(result.isError).toBe(true);
    expect(errorCodeOf(result)).toBe(code);
    expect(textOf(result)).toContain("\nHint: ");
  });

  test("is what %pip install does in a cell", async ({ client }) => {
    expect(await client.text("%pip install tabulate==0.9.0")).toContain("tabulate");
    expect(await client.text("import tabulate; tabulate.__version__")).toBe("'0.9.0'");
  });
});

const MAKE_ARCHIVES = String.raw`
import os, tarfile, zipfile
def info(version):
    return {f"local-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: local\nVersion: {version}\n",
            f"local-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"local-{version}.dist-info/RECORD": "local.py,,\n"}
with zipfile.ZipFile("local-1-py3-none-any.whl", "w") as wheel:
    for path, content in {"local.py": "version = 1", **info(1)}.items(): wheel.writestr(path, content)
os.makedirs("local-2", exist_ok=True)
open("local-2/local.py", "w").write("version = 2")
open("local-2/PKG-INFO", "w").write("Metadata-Version: 2.1\nName: local\nVersion: 2\n")
open("local-2/pyproject.toml", "w").write('[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "local"\nversion = "2"\n[tool.setuptools]\npy-modules = ["local"]\n')
with tarfile.open("local-2.tar.gz", "w:gz") as archive: archive.add("local-2")
`;

const MAKE_EXTENSION = String.raw`
import os
os.makedirs("compiled", exist_ok=True)
open("compiled/compiled.c", "w").write("int nothing;")
open("compiled/pyproject.toml", "w").write('[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n')
open("compiled/setup.py", "w").write("from setuptools import setup, Extension\nsetup(name='compiled', version='1', ext_modules=[Extension('compiled', ['compiled.c'])])")
`;
