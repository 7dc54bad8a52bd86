import Docker from "dockerode";
import { describe, expect } from "vitest";

import { errorCodeOf, textOf, upstream } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";
import { serveSsh } from "./ssh-server.ts";

describe("an engine behind ssh", () => {
  test.for(["socket", "exec"])(
    "runs cells, calls tools and resets, over the %s link",
    async (link, { connect, directory }) => {
      using engine = await serveSsh(directory.make(`keys-${link}`));
      await using client = await connect({ env: engine.env, args: ["--link", link] });
      expect(await client.text("6 * 7")).toBe("42");
      await client.register("everything", upstream("everything"));
      const code = "from mcptools.everything.echo import Params, run\nprint(run(Params(message='over ssh')))";
      expect(await client.text(code)).toContain("over ssh");
      expect((await client.call("reset")).isError).toBeFalsy();
      expect(await client.text("print('x' * 5_000_000)")).toMatch(/of 5,?000,?000 characters shown/);
    },
  );

  test("keeps no sandbox and no connection of a server that was killed", async ({ connect, directory }) => {
    using engine = await serveSsh(directory.make("keys-of-the-killed"));
    await using client = await connect({ env: engine.env, args: ["--link", "exec"] });
    expect(await client.text("1")).toBe("1");
    expect(engine.connections()).toBeGreaterThan(0);
    process.kill(client.transport.pid ?? 0, "SIGKILL");
    const filters = { label: [`io.ipybox.workspace=${client.workspace}`] };
    await expect.poll(() => new Docker().listContainers({ all: true, filters }), { timeout: 10_000 }).toEqual([]);
    await expect.poll(() => engine.connections(), { timeout: 10_000 }).toBe(0);
  });

  test("that does not know our key can't be reached, and the error has ssh's words", async ({ connect, directory }) => {
    using engine = await serveSsh(directory.make("keys-of-another"));
    await using client = await connect({ env: engine.stranger });
    const refused = await client.cell("1");
    expect(errorCodeOf(refused)).toBe("engine-unreachable");
    expect(textOf(refused)).toContain(engine.stranger.DOCKER_HOST);
    expect(textOf(refused)).toContain("Permission denied");
  });
});
