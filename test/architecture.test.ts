import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

import { describe, expect, test } from "vitest";

const SOURCE = resolve(import.meta.dirname, "../src");

/** The stations of a call know nothing of each other: only `session` joins them. */
const STATIONS = ["sandbox", "kernel", "bridge", "broker", "apigen", "packages", "egress", "workspace"] as const;

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  common: [],
  config: ["common"],
  ...Object.fromEntries(STATIONS.map((station) => [station, ["common"]])),
  session: ["common", ...STATIONS],
  server: ["common", "session"],
};

/** The only folders that name a package of a vendor. */
const VENDOR_PLACES: Readonly<Record<string, readonly string[]>> = {
  "@modelcontextprotocol/sdk": ["server", "broker"],
  dockerode: ["sandbox/docker"],
  "tar-fs": ["sandbox/docker"],
  "@anthropic-ai/sandbox-runtime": ["sandbox/local"],
  ws: ["kernel"],
  dotenv: ["config"],
  "p-queue": ["session"],
  "proper-lockfile": ["common"],
  undici: ["egress"],
};

/** Functions of node:fs that open and change nothing. */
const LOOKS = new Set([
  ...["accessSync", "constants", "existsSync", "lstat", "lstatSync", "readlinkSync", "realpath", "realpathSync"],
  ...["stat", "statSync", "statfs"],
]);

/** Who opens or changes files of this host, and which. Those of the workspace go through `workspace/beneath.ts` alone. */
const OPENS: Readonly<Record<string, readonly string[]>> = {
  "the workspace, no link followed": ["workspace/beneath.ts"],
  "entries of a directory that beneath.ts opened": [
    ...["workspace/workspace-files.ts", "workspace/copy/host-tree.ts", "workspace/walk.ts"],
    "workspace/directory-watch.ts",
  ],
  "the workspace's own directory, where it is missing": ["workspace/workspace.ts"],
  "state of ours": [
    ...[
      "broker/open-upstream.ts",
      "broker/registry.ts",
      "egress/wheel-cache.ts",
      "common/host-lock.ts",
      "common/state-directory.ts",
    ],
    ...["sandbox/docker/engine-note.ts", "sandbox/local/inventory.ts"],
    ...["sandbox/local/local-engine.ts", "sandbox/local/places.ts", "sandbox/local/python-environment.ts"],
    ...["sandbox/local/sandbox-records.ts", "sandbox/local/scratches.ts"],
    "workspace/env-placeholder.ts",
  ],
  "run directories": ["sandbox/link/run-directory.ts", "sandbox/link/socket-link.ts", "sandbox/link/socket.ts"],
  "files of our package": ["sandbox/docker/base-image.ts", "sandbox/kernel-sources.ts", "version.ts"],
  "what the user names or configures": [
    ...["cli/run.ts", "common/read-json.ts", "egress/host-http.ts", "egress/index-config.ts"],
    "sandbox/engine-endpoint.ts",
  ],
  "facts of this machine": [
    ...["all-in-one.ts", "common/process-identity.ts", "config/initial-environment.ts", "sandbox/build-host.ts"],
    ...["sandbox/docker/own-container.ts", "sandbox/docker/workspace-place.ts", "workspace/watch-limit.ts"],
  ],
};

interface Import {
  readonly file: string;
  readonly target: string;
}

const files = readdirSync(SOURCE, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
const imports = files.flatMap((file): Import[] =>
  [...readFileSync(join(SOURCE, file), "utf8").matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)].map((match) => ({
    file,
    target: match[1] ?? "",
  })),
);

describe("the directions of imports", () => {
  test("every folder of src is known here", () => {
    const folders = new Set(files.filter((file) => file.includes("/")).map(folderOf));
    expect([...folders].sort()).toEqual([...Object.keys(MAY_IMPORT), "cli"].sort());
  });

  test.for(Object.entries(MAY_IMPORT))("%s imports only what is below it", ([folder, allowed]) => {
    const wrong = localImports()
      .filter(({ file }) => folderOf(file) === folder)
      .filter(({ path }) => folderOf(path) !== folder && !allowed.includes(folderOf(path)));
    expect(wrong).toEqual([]);
  });

  test("only engines.ts reaches into the folder of an engine", () => {
    const engineFolder = (path: string) => /^sandbox\/(docker|local)\//.exec(path)?.[1];
    const wrong = localImports().filter(({ file, path }) => {
      const target = engineFolder(path);
      return target !== undefined && engineFolder(file) !== target && file !== "sandbox/engines.ts";
    });
    expect(wrong).toEqual([]);
  });

  test.for(Object.entries(VENDOR_PLACES))("%s is named in its own place only", ([vendor, places]) => {
    const wrong = imports
      .filter(({ target }) => target === vendor || target.startsWith(`${vendor}/`))
      .filter(({ file }) => !places.some((place) => file.startsWith(`${place}/`)));
    expect(wrong).toEqual([]);
  });

  test("nobody opens or changes files of this host but those who are known to", () => {
    const opening = files.filter((file) => importedFromFs(file).some((name) => !LOOKS.has(name)));
    expect(opening.sort()).toEqual(Object.values(OPENS).flat().sort());
  });

  test("nothing imports app.ts but the command line and the index", () => {
    const wrong = localImports().filter(
      ({ file, path }) => path === "app.ts" && folderOf(file) !== "cli" && file !== "index.ts",
    );
    expect(wrong).toEqual([]);
  });
});

function localImports(): (Import & { path: string })[] {
  return imports
    .filter(({ target }) => target.startsWith("."))
    .map(({ file, target }) => ({ file, target, path: relative(SOURCE, resolve(SOURCE, dirname(file), target)) }));
}

/** Names of the functions of node:fs, types left out. */
function importedFromFs(file: string): string[] {
  const source = readFileSync(join(SOURCE, file), "utf8");
  return [...source.matchAll(/import (\*[^;]*|[\w{][^;]*?) from "(?:node:)?fs(?:\/promises)?"/g)]
    .map((match) => match[1] ?? "")
    .filter((names) => !names.startsWith("type "))
    .flatMap((names) => names.replace(/[{}]/g, "").split(","))
    .map((name) => name.trim())
    .filter((name) => name !== "" && !name.startsWith("type "));
}

function folderOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : path;
}
