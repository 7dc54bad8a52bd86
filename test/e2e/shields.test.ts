import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import Docker from "dockerode";
import { describe, expect } from "vitest";

import { metaOf, textOf, upstream } from "../helpers/client.ts";
import { test as baseTest } from "../helpers/session.ts";

/** A session in a workspace with these files. */
const test = baseTest.extend(
  "open",
  { scope: "file" },
  ({ connect, directory }) =>
    async (files: Readonly<Record<string, string>> = {}, args: readonly string[] = []) => {
      const workspace = mkdtempSync(join(directory.path, "workspace-"));
      const at = (path: string) => join(workspace, path);
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(join(at(path), ".."), { recursive: true });
        writeFileSync(at(path), content);
      }
      const client = await connect({ workspace, args });
      return Object.assign(client, { at });
    },
);

/** As editors save: a new file beside it, renamed onto it. */
const replace = (path: string, content: string) => {
  writeFileSync(`${path}~`, content);
  renameSync(`${path}~`, path);
};

/** When the engine said one of these of the sandboxes of a workspace, in milliseconds of the epoch. */
const eventsOf = async (workspace: string, event: string[]): Promise<number[]> => {
  const now = Math.ceil(Date.now() / 1000);
  const filters = { event, label: [`io.ipybox.workspace=${workspace}`] };
  let text = "";
  for await (const chunk of await new Docker().getEvents({ since: now - 60, until: now, filters }))
    text += String(chunk);
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.map((line) => (JSON.parse(line) as { timeNano: number }).timeNano / 1e6); // the engine's documented shape
};

describe("a masked file", () => {
  test("that is replaced stops the sandbox at once, and the next cell runs in a new one and says so", async ({
    open,
  }) => {
    await using client = await open({ "sub/.env": "SECRET=old" });
    await client.text("x = 1");
    const replacedAt = Date.now();
    replace(client.at("sub/.env"), "SECRET=new");
    const next = await client.cell("print(repr(open('sub/.env').read())); 'x' in globals()");
    expect(textOf(next)).toBe(
      "''\nFalse\n[sub/.env was replaced: the sandbox was stopped at once, and this cell ran in a new one; variables and imports are lost]",
    );
    expect([next.isError, metaOf(next).stateKept]).toEqual([false, false]);
    const [stoppedAt = NaN] = await eventsOf(client.workspace, ["pause", "kill", "died"]); // killed where it can't pause
    expect(stoppedAt).toBeGreaterThan(replacedAt);
    // Its limit is 200 ms, which a busy machine may miss.
    console.log(`the sandbox was stopped ${(stoppedAt - replacedAt).toFixed(0)} ms after a masked file was replaced`);
    expect(await client.text("'quiet'")).toBe("'quiet'");
  });

  test("that is replaced ends a running cell, which says so", async ({ open }) => {
    await using client = await open({ ".env": "SECRET=old" });
    await client.text("x = 1");
    const running = client.cell("import time\nprint('begun', flush=True)\nopen('begun', 'w').close()\ntime.sleep(60)");
    await expect.poll(() => existsSync(client.at("begun")), { timeout: 60_000 }).toBe(true);
    replace(client.at(".env"), "SECRET=new");
    const result = await running;
    expect(textOf(result)).toBe(
      "begun\n[.env was replaced while this cell ran: the sandbox was stopped at once and is replaced; variables and imports are lost]",
    );
    expect([result.isError, metaOf(result).status, metaOf(result).stateKept]).toEqual([true, "died", false]);
    expect(textOf(await client.cell("open('.env').read()"))).toMatch(/^''\n\[\.env was replaced: /);
  });

  test("that is replaced again and again costs one sandbox, made for the next cell, which says so once", async ({
    open,
  }) => {
    await using client = await open({ "node_modules/package/.env": "A=1", ".env": "B=1" });
    await client.text("x = 1");
    for (const path of ["node_modules/package/.env", ".env", "node_modules/package/.env"]) {
      replace(client.at(path), "C=1");
      await expect.poll(() => eventsOf(client.workspace, ["destroy", "remove"])).toHaveLength(1);
    }
    await client.modules("memory", upstream("memory")); // which needs a sandbox as well
    expect(textOf(await client.cell("'x' in globals()"))).toMatch(
      /^False\n\[node_modules\/package\/\.env was replaced: /,
    );
    expect(await client.text("'quiet'")).toBe("'quiet'");
    expect(await eventsOf(client.workspace, ["create"])).toHaveLength(2);
  });

  test("that comes up late, deep down, does the same; written in place it does not", async ({ open }) => {
    await using client = await open({ ".env": "A=1", "a/b/x": "" });
    await client.text("x = 1");
    appendFileSync(client.at(".env"), "B=2");
    expect(await client.text("x, open('.env').read()")).toBe("(1, '')");
    writeFileSync(client.at("a/b/.env.local"), "SECRET=1");
    expect(textOf(await client.cell("open('a/b/.env.local').read()"))).toMatch(/^''\n\[a\/b\/\.env\.local appeared: /);
  });

  test("that a cell plants costs it its own sandbox, once", async ({ open }) => {
    await using client = await open();
    expect(textOf(await client.cell("import time\nopen('.env.local', 'w').write('X=1')\ntime.sleep(30)"))).toContain(
      "[.env.local appeared while this cell ran: ",
    );
    expect(textOf(await client.cell("open('.env.local').read()"))).toContain("''\n[.env.local appeared: ");
    expect(await client.text("open('.env.local').read()")).toBe("''");
  });

  test("that is the root's .env is made again when it is removed, so that no cell can plant it", async ({ open }) => {
    await using client = await open();
    await client.text("1");
    rmSync(client.at(".env"));
    expect(textOf(await client.cell("open('.env', 'w').write('PLANTED=1')"))).toMatch(
      /Read-only file system|Permission denied/,
    );
    expect(readFileSync(client.at(".env"), "utf8")).toBe("");
  });
});

test("directories on the way to a mask or a repository can't be renamed by a cell", async ({ open }) => {
  await using client = await open({ "a/b/.git/config": "", "env/.env": "S=1", "free/x": "" });
  for (const place of [client.workspace, "/workspace"]) {
    for (const name of ["a", "a/b", "env"]) {
      const renamed = await client.cell(`import os; os.rename('${place}/${name}', '${place}/${name}-2')`);
      expect(textOf(renamed)).toContain("Device or resource busy");
    }
  }
  expect(await client.text("os.rename('free', 'other')")).toBe("");
});

describe("a protected path", () => {
  test("that a cell makes or changes is named in its answer, and left as it is", async ({ open }) => {
    await using client = await open({ "CLAUDE.md": "as it was" });
    const notice = (names: string) => `[Changed during this cell: ${names}. Programs on the host may act on it]`;
    expect(await client.text("_ = open('.mcp.json', 'w').write('{}')")).toBe(notice(".mcp.json"));
    expect(await client.text("1")).toBe("1");
    expect(await client.text("open('.mcp.json', 'a').write('\\n'); import os; os.makedirs('p/.git/hooks')")).toContain(
      notice(".mcp.json, p/.git"),
    );
    expect(await client.text("_ = open('p/.git/hooks/pre-commit', 'w').write('#!')")).toBe(notice("p/.git"));
    replace(client.at("CLAUDE.md"), "by the user");
    expect(await client.text("_ = open('CLAUDE.md', 'a').write(' and a cell')")).toBe(notice("CLAUDE.md"));
    expect(readFileSync(client.at("CLAUDE.md"), "utf8")).toBe("by the user and a cell");
    expect(existsSync(client.at(".mcp.json"))).toBe(true);
  });
});

test("cells on a disk with room are not interrupted", async ({ open }) => {
  await using client = await open();
  const { bavail, bsize } = statfsSync(client.workspace);
  expect(bavail * bsize).toBeGreaterThan(1e9);
  expect(await client.text("import time; time.sleep(1); 'done'")).toBe("'done'");
});
