import { execFile, spawn } from "node:child_process";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";

import { describe, expect } from "vitest";

import { AllInOneImage, TRUST } from "../helpers/all-in-one.ts";
import { claudeCode } from "../helpers/claude-code.ts";
import { errorCodeOf, textOf } from "../helpers/client.ts";
import { test as base } from "../helpers/session.ts";

const run = promisify(execFile);
const ROOT = resolve(import.meta.dirname, "../..");
const SOCKET = "/var/run/docker.sock";

const test = base
  .extend("image", { scope: "file" }, () => AllInOneImage.build())
  .extend("workspace", { scope: "file" }, ({ image, directory }) => {
    const workspace = image.makeWorkspace(directory);
    writeFileSync(`${workspace}/.env`, "SEARCH_API_KEY=of-the-workspace\n");
    return workspace;
  })
  .extend("cache", { scope: "file" }, async ({ image }, { onCleanup }) => {
    const { volume, options } = await image.makeCache();
    onCleanup(async () => {
      await run("docker", ["volume", "rm", volume]);
    });
    return options;
  })
  .extend("server", { scope: "file" }, async ({ image, directory, workspace, cache }, { onCleanup }) => {
    const client = await image.connect(directory, workspace, ["-e", "GIVEN_API_KEY=given-to-docker-run", ...cache]);
    onCleanup(() => client[Symbol.asyncDispose]());
    return client;
  });

describe("docker run -i --rm -v …:/app/workspace ipybox", { timeout: 600_000 }, () => {
  test("runs cells as the user for whom it was built, to whom their files and ours belong", async ({
    server,
    image,
    workspace,
  }) => {
    expect(await server.text("import os; os.getuid(), os.getgid(), os.getcwd()")).toBe(
      `(${image.user.uid}, ${image.user.gid}, '/app/workspace')`,
    );
    const plot = "import matplotlib.pyplot as plt; open('made.txt', 'w').write('x'); plt.plot([1, 2]); plt.show()";
    const { content } = await server.cell(plot);
    const [, picture] = /\((images\/\S+\.png)\)/.exec(textOf({ content })) ?? [];
    for (const path of ["made.txt", "images", picture ?? "no picture"]) {
      expect(statSync(`${workspace}/${path}`)).toMatchObject(image.user);
    }
  });

  test("starts MCP servers with npx and with uvx, generates their APIs and calls them", async ({
    server,
    image,
    workspace,
  }) => {
    const env = { ...TRUST, TOKEN: "${GIVEN_API_KEY}" };
    const everything = { command: "npx", args: ["-y", "@modelcontextprotocol/server-everything@2026.8.31"], env };
    const time = { command: "uvx", args: ["mcp-server-time", "--local-timezone", "UTC"], env };
    for (const [name, params] of Object.entries({ everything, time })) {
      await server.modules(name, { ...params, timeout: 240 });
      expect(statSync(`${workspace}/mcptools/${name}/__init__.py`)).toMatchObject(image.user);
    }
    const code = "from mcptools.everything.echo import Params, run\nprint(run(Params(message='from a cell')))";
    expect(await server.text(code)).toContain("from a cell");
    const now = "from mcptools.time.get_current_time import Params, run\nprint(run(Params(timezone='UTC')))";
    expect(await server.text(now)).toContain("UTC");
  });

  test("finds in a volume what npx and uvx fetched, without a network", async ({ server, image, directory, cache }) => {
    const programs = {
      npx: ["-y", "@modelcontextprotocol/server-everything@2026.8.31"],
      uvx: ["mcp-server-time", "--local-timezone", "UTC"],
    };
    const workspace = image.makeWorkspace(directory, "without-network");
    await using later = await image.connect(directory, workspace, ["--network", "none", ...cache]);
    for (const [command, args] of Object.entries(programs)) {
      const params = { command, args, env: TRUST, timeout: 240 };
      const modules = await server.modules(command, params);
      expect(await later.modules(command, { ...params, args: ["--offline", ...args] })).toEqual(modules);
    }
  });

  test("installs packages that have wheels, and builds none", async ({ server }) => {
    expect(textOf(await server.call("install_package", { package_name: "cowsay==6.1" }))).toContain("cowsay");
    expect(await server.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
    expect((await server.call("reset")).isError).toBeFalsy();
    expect(await server.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
    const built = await server.call("install_package", { package_name: "docopt==0.6.2" });
    expect(errorCodeOf(built)).toBe("install-failed");
    expect(textOf(built)).toContain("Nothing is built from source here");
  });

  test("stops a cell at its timeout and keeps its variables", async ({ server }) => {
    const stopped = await server.cell("kept = 1\nimport time; time.sleep(60)", { timeout: 1 });
    expect(textOf(stopped)).toContain("variables are kept");
    expect(await server.text("kept")).toBe("1");
  });

  test("does not load the workspace's .env, and says what to do", async ({ server }) => {
    const params = { command: "npx", args: ["-y", "no-such-server"], env: { KEY: "${SEARCH_API_KEY}" } };
    const refused = await server.register("search", params);
    expect(errorCodeOf(refused)).toBe("missing-variable");
    for (const remedy of ["-e NAME", "--env-file FILE", "-v /dev/null:/app/workspace/.env"]) {
      expect(textOf(refused)).toContain(remedy);
    }
  });

  test("forwards commands and options", async ({ image, workspace }) => {
    const child = spawn("docker", image.command(workspace, [], ["run", "-"]), { stdio: ["pipe", "pipe", "ignore"] });
    child.stdin.end("print(6 * 7)");
    expect(await text(child.stdout)).toBe("42\n");
    await expect(run("docker", image.command(workspace, [], ["--bogus"]))).rejects.toMatchObject({ code: 2 });
  });

  test.for([
    [["-x"], "There is no option -x"],
    [["-t"], "-t needs a value"],
    [["-t", "No Name"], "-t: 'No Name' is no name of an image"],
    [["-d", "nowhere.txt"], "-d: there is no file nowhere.txt"],
    [["ipybox"], "There is no argument ipybox"],
  ] as const)("is not built with %j", async ([args, words]) => {
    const building = run(join(ROOT, "docker-build.sh"), args);
    await expect(building).rejects.toMatchObject({ code: 2, stderr: expect.stringMatching(words) as string });
  });

  test("doctor says which walls are there, and tries a sandbox behind them", async ({ image, workspace }) => {
    const doctor = async (...options: string[]) => {
      const { stdout } = await run("docker", image.command(workspace, options, ["doctor", "--json"]));
      return JSON.parse(stdout) as unknown;
    };
    const link = expect.objectContaining({ name: "link", status: "ok" }) as unknown;
    const walls = expect.stringContaining("another user than the server") as string;
    expect(await doctor()).toEqual(
      expect.arrayContaining([expect.objectContaining({ name: "walls", status: "ok", detail: walls }), link]),
    );
    expect(await doctor("-v", `${SOCKET}:${SOCKET}`)).toEqual(
      expect.arrayContaining([expect.objectContaining({ name: "engine", status: "ok" }), link]),
    );
  });

  test("says why where it can't start", async ({ image, workspace, directory }) => {
    const started = (...options: string[]) => run("docker", image.command(workspace, options, ["--version"]));
    await expect(started("--user", "1000")).rejects.toThrow("Leave out --user");
    await expect(started("--cap-drop", "SETUID")).rejects.toThrow("lacks capabilities");
    await expect(started("--read-only")).rejects.toThrow("--tmpfs /tmp:exec");
    const absent = run("docker", image.command(workspace, [], ["--env-file", "/no/such.env"]));
    await expect(absent).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^ipybox: --env-file: .*: there is no such file/) as string,
    });
    const foreign = directory.make("foreign");
    if (process.getuid?.() !== 0) return; // a directory of somebody else is not ours to make
    await expect(run("docker", image.command(foreign))).rejects.toThrow("belongs to UID 0");
  });

  test.for(["stdin", "stop", "SIGKILL"] as const)(
    "leaves nothing behind when ended by %s",
    async (how, { image, directory }) => {
      const before = await image.containers();
      const client = await image.connect(directory, image.makeWorkspace(directory, `ended-by-${how}`));
      expect(await client.text("1")).toBe("1");
      const [container = ""] = (await image.containers()).filter((id) => !before.includes(id));
      const end = {
        stdin: () => client[Symbol.asyncDispose](),
        stop: () => run("docker", ["stop", container]),
        SIGKILL: () => process.kill(client.transport.pid ?? 0, "SIGKILL"),
      };
      await end[how]();
      await expect.poll(() => image.containers(), { timeout: 10_000 }).not.toContain(container);
      await client[Symbol.asyncDispose]();
    },
  );

  test("is what the plugin ipybox-all-in-one starts, and Claude Code finds it healthy", async ({
    image,
    directory,
  }) => {
    const project = image.makeWorkspace(directory, "of-the-plugin");
    const claude = claudeCode(directory, { project, env: { PATH: image.pathThatKnowsIt(directory) } });
    await claude("plugin", "marketplace", "add", ROOT);
    await claude("plugin", "install", "ipybox-all-in-one@ipybox");
    expect(await claude("mcp", "list")).toMatch(/^plugin:ipybox-all-in-one:ipybox: docker run .*✔ Connected$/m);
  });

  test("makes sibling sandboxes with all walls where it is given the engine's socket", async ({ image, directory }) => {
    const workspace = image.makeWorkspace(directory, "of-siblings");
    writeFileSync(`${workspace}/.env`, "SEARCH_API_KEY=of-the-workspace\n");
    await using client = await image.connect(directory, workspace, ["-v", `${SOCKET}:${SOCKET}`]);
    expect(await client.text("import os; os.getuid(), os.getcwd(), open('.env').read()")).toBe(
      `(${image.user.uid}, '/app/workspace', '')`,
    );
    await client.text("open('made.txt', 'w').write('by a sibling')");
    expect(readFileSync(`${workspace}/made.txt`, "utf8")).toBe("by a sibling");
    expect(textOf(await client.call("install_package", { package_name: "cowsay==6.1" }))).toContain("cowsay");
    expect(await client.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
  });

  test("says why sockets can't be shared with a sibling, where they are asked for", async ({ image, directory }) => {
    const workspace = image.makeWorkspace(directory, "of-siblings-with-sockets");
    const options = ["-v", `${SOCKET}:${SOCKET}`, "-e", "IPYBOX_LINK=socket"];
    await using client = await image.connect(directory, workspace, options);
    const refused = await client.cell("1");
    expect(errorCodeOf(refused)).toBe("sandbox-start-failed");
    expect(textOf(refused)).toMatch(/in this container only.*\nHint: Leave --link out/);
  });
});
