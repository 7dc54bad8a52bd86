import { execFileSync } from "node:child_process";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import { afterAll, beforeAll, describe, expect } from "vitest";

import { type TestClient, textOf } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

/** An index with a wheel of an older version than its source archive, and something that needs the newer one. */
let index: Server;
beforeAll(async () => {
  const files: Readonly<Record<string, Buffer>> = {
    "grown-1-py3-none-any.whl": archive("wheel", "grown", 1),
    "grown-2.tar.gz": archive("sdist", "grown", 2),
    "needy-1-py3-none-any.whl": archive("wheel", "needy", 1, "grown>=2"),
  };
  index = createServer((request, response) => {
    const [, kind, name = ""] = (request.url ?? "").split("/");
    const ofProject = Object.keys(files).filter((file) => file.startsWith(`${name}-`));
    if (kind === "files" && files[name]) response.end(files[name]);
    else if (kind !== "simple" || ofProject.length === 0) response.writeHead(404).end();
    else
      response
        .setHeader("content-type", "text/html")
        .end(ofProject.map((file) => `<a href="/files/${file}">${file}</a>`).join("\n"));
  });
  await new Promise<void>((resolve) => index.listen(0, "127.0.0.1", resolve));
});
afterAll(() => void index.close());

const indexOption = () => ["--index-url", `http://127.0.0.1:${(index.address() as AddressInfo).port}/simple/`]; // not a path
const install = (client: TestClient, package_name: string, options = {}) =>
  client.call("install_package", { package_name }, options);

describe("install_package", () => {
  test("builds the newest version that is asked for, though an older one has a wheel", async ({
    connect,
    directory,
  }) => {
    await using client = await connect({ args: indexOption(), workspace: directory.make("newest") });
    const pieces: string[] = [];
    const onProgress = (message: string) => pieces.push(message);
    const result = await install(client, "grown", { onProgress });
    expect(textOf(result)).toContain("Installed grown 2");
    expect(textOf(result)).not.toContain("error");
    expect(pieces.join("")).toContain("Installed grown 2");
    expect(await client.text("import grown; grown.version")).toBe("2");
    expect(textOf(await install(client, "grown"))).toContain("Nothing to do");
    expect(textOf(await install(client, "grown<2"))).toContain("Installed grown 1");
    await client.call("reset");
    expect(await client.text("import grown; grown.version")).toBe("1");
  });

  test("builds what a wheel depends on, by %pip too", async ({ connect, directory }) => {
    await using client = await connect({ args: indexOption(), workspace: directory.make("dependency") });
    expect(await client.text("%pip install needy")).toContain("Installed grown 2, needy 1");
    expect(await client.text("import grown, needy; grown.version, needy.version")).toBe("(2, 1)");
  });
});

/** A package of one module that knows its version. */
function archive(kind: "wheel" | "sdist", name: string, version: number, requires = ""): Buffer {
  const code = String.raw`
import io, sys, tarfile, zipfile
kind, name, version, requires = sys.argv[1:]
out = io.BytesIO()
metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (f"Requires-Dist: {requires}\n" if requires else "")
module = f"version = {version}"
if kind == "wheel":
    with zipfile.ZipFile(out, "w") as archive:
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{name}.py", module)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
else:
    backend = f'''
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    wheel = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + wheel, "w") as archive:
        info = "{name}-{version}.dist-info"
        archive.writestr("{name}.py", "{module}")
        archive.writestr(info + "/METADATA", {metadata!r})
        archive.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(info + "/RECORD", "{name}.py,,\\n" + info + "/METADATA,,\\n" + info + "/WHEEL,,\\n" + info + "/RECORD,,\\n")
    return wheel
'''
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in {"PKG-INFO": metadata, "backend.py": backend,
                           "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'}.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
sys.stdout.buffer.write(out.getvalue())`;
  return execFileSync("python3", ["-c", code, kind, name, String(version), requires]);
}
