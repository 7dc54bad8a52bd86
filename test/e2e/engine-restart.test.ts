import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { afterAll, describe, expect, vi } from "vitest";

import { currentProcess, formatIdentity } from "../../src/common/process-identity.ts";
import { baseEnvironment, errorCodeOf, metaOf, textOf } from "../helpers/client.ts";
import { DockerDaemon } from "../helpers/docker-daemon.ts";
import { processesWith } from "../helpers/processes.ts";
import { test } from "../helpers/session.ts";

const run = promisify(execFile);

// Another engine beside the machine's takes root to start.
describe.runIf(process.getuid?.() === 0)("an engine of its own", () => {
  const daemon = new DockerDaemon();
  let image: string;
  /** What every server and command here is told: that engine, and the machine's kernel image in it. */
  const options = () => ({ args: ["--image", image], env: { DOCKER_HOST: daemon.address } });
  const containers = () => daemon.api.listContainers({ all: true });
  test.beforeAll(async ({ bin, directory }) => {
    const built = await run(bin, ["build"], { cwd: directory.make("build"), env: baseEnvironment(directory) });
    image = built.stdout.trim();
    await daemon.start();
    daemon.copyImage(image);
  });
  afterAll(() => daemon[Symbol.asyncDispose]());

  test("that is restarted while a cell runs ends the cell; the server says what is missing, and recovers", async ({
    connect,
    directory,
  }) => {
    const workspace = directory.make("restarted");
    await using client = await connect({ ...options(), workspace });
    const running = client.cell("import time\nopen('begun', 'w').close()\ntime.sleep(600)", { timeout: 700 });
    await expect.poll(() => existsSync(join(workspace, "begun")), { timeout: 60_000 }).toBe(true);
    await daemon.end("SIGTERM");
    const ended = await running;
    expect([ended.isError, metaOf(ended).status]).toEqual([true, "died"]);
    expect(textOf(ended)).toMatch(/sandbox ended/);

    const refused = await client.cell("1");
    expect(errorCodeOf(refused)).toBe("engine-unreachable");
    expect(textOf(refused)).toContain("Hint: ");
    await daemon.start();
    expect(textOf(await client.cell("6 * 7"))).toMatch(/^42/);
    await client[Symbol.asyncDispose]();
    await expect.poll(containers, { timeout: 5000 }).toEqual([]);
  });

  test("that is killed together with the server leaves no container once it is back", async ({ connect }) => {
    const client = await connect(options());
    await client.text("1");
    await daemon.end("SIGKILL");
    process.kill(client.transport.pid ?? 0, "SIGKILL");
    await client[Symbol.asyncDispose]();
    await daemon.start();
    await using next = await connect(options());
    expect(await next.text("1")).toBe("1");
    await expect.poll(async () => (await containers()).length, { timeout: 5000 }).toBe(1);
  });

  describe("ps and prune tell the truth about it:", () => {
    const self = currentProcess();
    const owners = {
      dead: formatIdentity({ ...self, startTime: "1" }),
      "dead before the last boot": formatIdentity({ ...self, boot: "another" }),
      alive: formatIdentity(self),
      "of another machine": formatIdentity({ ...self, machine: "another" }),
      "of another container": formatIdentity({ ...self, pidNamespace: "1" }),
      unreadable: "nonsense",
    };
    const PACKAGES = ["ipybox-packages-kept", "ipybox-packages-gone", "ipybox-packages-elsewhere"];
    const VOLUMES = [...PACKAGES, "ipybox-empty", "not-ours"];
    const gone = Object.keys(owners).filter((name) => name.startsWith("dead"));
    const command = async (...args: string[]) => {
      const { bin, directory, workspace } = place;
      const env = { ...baseEnvironment(directory), ...options().env, IPYBOX_IMAGE: image };
      return (await run(bin, args, { env, cwd: workspace })).stdout;
    };
    let place: { bin: string; directory: Parameters<typeof baseEnvironment>[0]; workspace: string };
    const sandboxes = async () => (await containers()).map(({ Labels }) => Labels["io.ipybox.session"]).sort();
    const volumes = async () => {
      const { Volumes } = await daemon.api.listVolumes();
      return Volumes.map(({ Name }) => Name).filter((name) => VOLUMES.includes(name));
    };

    test.beforeAll(async ({ bin, directory }) => {
      place = { bin, directory, workspace: directory.make("pruned") };
      // The server that was killed has left a sweeper, which goes on looking for the dead for a while.
      await vi.waitFor(() => expect(processesWith(daemon.address)).toEqual([]), { timeout: 15_000 });
      for (const [name, owner] of Object.entries(owners)) {
        const container = await daemon.api.createContainer({
          name: `ipybox-${name.replaceAll(" ", "-")}`,
          Image: image,
          Entrypoint: ["sleep", "600"],
          Labels: {
            "io.ipybox.session": name,
            "io.ipybox.owner": owner,
            "io.ipybox.workspace": place.workspace,
            "io.ipybox.role": "session",
          },
          HostConfig: { NetworkMode: "none" },
        });
        await container.start();
      }
      await daemon.api.createContainer({ name: "not-ours", Image: image });
      for (const [name, machine, workspace] of [
        ["ipybox-packages-kept", self.machine, place.workspace],
        ["ipybox-packages-gone", self.machine, "/nowhere/at/all"],
        ["ipybox-packages-elsewhere", "another", "/nowhere/at/all"],
        ["not-ours", self.machine, "/nowhere/at/all"],
      ] as const) {
        const Labels = { "io.ipybox.workspace": workspace, "io.ipybox.machine": machine };
        await daemon.api.createVolume({ Name: name, Labels });
      }
    });

    test.beforeAll(() => daemon.api.createVolume({ Name: "ipybox-empty", Labels: { "io.ipybox.role": "mask" } }));

    test("ps names every sandbox, and whether its owner lives", async () => {
      const listed = JSON.parse(await command("ps", "--json")) as { session: string; owner: string }[];
      expect(Object.fromEntries(listed.map(({ session, owner }) => [session, owner]))).toEqual({
        dead: "dead",
        "dead before the last boot": "dead",
        alive: "alive",
        "of another machine": "unknown",
        "of another container": "unknown",
        unreadable: "unknown",
      });
    });

    test("prune removes what belongs to the dead of this machine, and packages of its workspaces that are gone", async () => {
      const said = await command("prune");
      expect(await sandboxes()).toEqual(
        [undefined, ...Object.keys(owners)].filter((name) => !gone.includes(name ?? "")).sort(),
      );
      expect((await volumes()).sort()).toEqual([
        "ipybox-empty",
        "ipybox-packages-elsewhere",
        "ipybox-packages-kept",
        "not-ours",
      ]);
      for (const name of ["ipybox-dead", "ipybox-dead-before-the-last-boot", "ipybox-packages-gone"]) {
        expect(said).toContain(name);
      }
      expect(await command("prune")).toBe("Nothing to remove\n");
    });

    test("prune --all removes every sandbox and volume of ipybox's, and nothing that is not ipybox's", async () => {
      await command("prune", "--all");
      expect(await sandboxes()).toEqual([undefined]);
      expect(await volumes()).toEqual(["not-ours"]);
      expect(await command("ps", "--json")).toBe("[]\n");
    });
  });
});
