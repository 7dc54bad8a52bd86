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
  undici: ["egress"],
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

function folderOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : path;
}
