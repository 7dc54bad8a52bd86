import { existsSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { expect } from "vitest";

import { type TestClient, upstream } from "../helpers/client.ts";
import { test as baseTest } from "../helpers/session.ts";

/** Two servers of a workspace of their own. */
const test = baseTest.extend("two", async ({ connect, directory }, { onCleanup }) => {
  const workspace = mkdtempSync(join(directory.path, "workspace-"));
  const [one, other] = await Promise.all([connect({ workspace }), connect({ workspace })]);
  onCleanup(async () => {
    for (const client of [one, other]) await client[Symbol.asyncDispose]();
  });
  return { workspace, one, other };
});

test("two servers of a workspace that generate the same name at once leave one whole API, which both use", async ({
  two: { workspace, one, other },
}) => {
  const call = "from mcptools.same.echo import Params, run; run(Params(message='heard'))";
  for (let round = 0; round < 3; round++) {
    const modules = await Promise.all([one, other].map((client) => client.modules("same", upstream("everything"))));
    expect(modules[0]).toEqual(modules[1]);
    const generated = readdirSync(join(workspace, "mcptools/same")).filter((name) => name !== "__pycache__");
    expect(generated.sort()).toEqual(
      [".ipybox.json", "__init__.py", ...(modules[0] ?? []).map((name) => `${name}.py`)].sort(),
    );
    expect(readdirSync(join(workspace, "mcptools"))).toEqual(["same"]);
    for (const client of [one, other]) expect(await client.text(call)).toContain("heard");
  }
});

test("two servers of a workspace that spill at once each keep the whole of their output", async ({
  two: { workspace, one, other },
}) => {
  const print = async (client: TestClient, mark: string) => {
    const answer = await client.text(`for n in range(5_000): print("${mark}", n)`);
    return /\.ipybox\/out\/[a-z0-9-]+\.txt/.exec(answer)?.[0] ?? "no spill";
  };
  const marks = ["one", "other", "one", "other", "one", "other"];
  const spills = await Promise.all(marks.map((mark) => print(mark === "one" ? one : other, mark)));
  expect(new Set(spills).size).toBe(marks.length);
  for (const [index, mark] of marks.entries()) {
    const lines = Array.from({ length: 5_000 }, (_, n) => `${mark} ${n}\n`).join("");
    expect(readFileSync(join(workspace, spills[index] ?? ""), "utf8").trimEnd()).toBe(lines.trimEnd());
  }
  expect(existsSync(join(workspace, ".ipybox/.gitignore"))).toBe(true);
});
