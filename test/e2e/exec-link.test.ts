import { readFileSync } from "node:fs";
import { join } from "node:path";

import Docker from "dockerode";
import { describe, expect } from "vitest";

import { metaOf, textOf, upstream } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

test.override("options", { args: ["--link", "exec"] });

describe("over the exec link", () => {
  test("cells run, call tools, and write to the workspace", async ({ client }) => {
    await client.call("register_mcp_server", { server_name: "everything", server_params: upstream("everything") });
    const call = "from mcptools.everything.echo import Params, run\nprint(run(Params(message='hello')))";
    expect(await client.text(call)).toContain("hello");
    const program = "subprocess.check_output([sys.executable, '-c', In[1]], text=True)";
    expect(await client.text(`import subprocess, sys\nprint(${program})`)).toContain("hello");
    await client.text("open('made', 'w').write('by a cell')");
    expect(readFileSync(join(client.workspace, "made"), "utf8")).toBe("by a cell");
  });

  test("output of 100 MB arrives whole", async ({ client }) => {
    const result = await client.cell("for _ in range(100): print('x' * 999_999)");
    const [, path = ""] = /full output: (\.ipybox\/out\/[\w-]+\.txt)\]/.exec(textOf(result)) ?? [];
    const lines = readFileSync(join(client.workspace, path), "utf8").split("\n");
    expect(lines).toHaveLength(100);
    expect(new Set(lines)).toEqual(new Set(["x".repeat(999_999)]));
    expect(metaOf(result).stateKept).toBe(true);
  });

  test("a sandbox that was ended from outside is replaced, and the next cell says so", async ({ client }) => {
    const docker = new Docker();
    const filters = { label: [`io.ipybox.workspace=${client.workspace}`] };
    const [found] = await docker.listContainers({ filters });
    await docker.getContainer(found?.Id ?? "").kill();
    expect(textOf(await client.cell("1 + 1"))).toContain("variables and imports are lost");
    expect(await client.text("1 + 1")).toBe("2");
  });
});
