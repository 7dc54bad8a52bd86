import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Deferred } from "../../../src/common/lifecycle.ts";
import { messageOf } from "../../../src/common/errors.ts";
import { silentLogger } from "../../../src/common/logger.ts";
import type { InstallerStorage, RunInstaller } from "../../../src/packages/installation.ts";
import { PackageInstaller } from "../../../src/packages/installer.ts";

const quiet = { onProgress: () => undefined, origin: "user" as const };

describe("the package installer", () => {
  let stateDir: string;
  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), "ipybox-installer-"));
  });
  afterEach(() => rm(stateDir, { recursive: true }));

  const hosts: unknown[] = [];
  const scratches: string[] = [];
  const installer = (runInstaller: RunInstaller, { builds = true } = {}) =>
    new PackageInstaller({
      workspace: "/ws",
      stateDir,
      runInstaller,
      openScratch: () => {
        scratches.push("made");
        return Promise.resolve({
          name: "scratch",
          [Symbol.asyncDispose]: () => Promise.resolve(void scratches.push("removed")),
        });
      },
      openEgress: (host) => {
        hosts.push(host);
        return { accept: () => undefined, [Symbol.asyncDispose]: () => Promise.resolve() };
      },
      indexCount: 2,
      builds,
      admitsPrivate: () => false,
      logger: silentLogger,
    });
  const signal = new AbortController().signal;

  it("answers with the installer's own words and reports them as they come", async () => {
    const seen: string[] = [];
    const packages = installer((args, { onOutput }) => {
      expect(JSON.parse(args[0] ?? "")).toEqual({
        step: "wheels",
        requirement: "numpy>=2",
        local: false,
        indexes: 2,
        hosts: false,
        builds: true,
      });
      onOutput("Resolved 1 package\n");
      onOutput("Installed numpy 2.1.0\n");
      return Promise.resolve({ code: 0, outOfMemory: false });
    });
    const text = await packages.install("numpy>=2", { ...quiet, signal, onProgress: (piece) => seen.push(piece) });
    expect(text).toBe("Resolved 1 package\nInstalled numpy 2.1.0");
    expect(seen).toHaveLength(2);
  });

  it("keeps the last 5,000 characters", async () => {
    const packages = installer((_args, { onOutput }) => {
      onOutput("x".repeat(9000));
      onOutput("the end");
      return Promise.resolve({ code: 0, outOfMemory: false });
    });
    const text = await packages.install("numpy", { ...quiet, signal });
    expect(text).toHaveLength(5000);
    expect(text.endsWith("the end")).toBe(true);
  });

  it("fails with the installer's words and a hint, and installs the next package", async () => {
    let code = 1;
    const packages = installer((_args, { onOutput }) => {
      onOutput("nope was not found in the package registry\n");
      return Promise.resolve({ code, outOfMemory: false });
    });
    await expect(packages.install("nope", { ...quiet, signal })).rejects.toMatchObject({
      code: "install-failed",
      message: "nope was not found in the package registry",
      hint: expect.stringContaining("configured indexes") as unknown,
    });
    code = 0;
    await packages.install("yes", { ...quiet, signal });
  });

  it("says so when the installer ran out of memory", async () => {
    const packages = installer(() => Promise.resolve({ code: 137, outOfMemory: true }));
    await expect(packages.install("big", { ...quiet, signal })).rejects.toMatchObject({
      message: "The installer ran out of memory",
    });
  });

  it("says so when the installer was stopped because the disk became full", async () => {
    const packages = installer((_args, { onOutput }) => {
      onOutput("The disk is almost full\n");
      return Promise.resolve({ code: 28, outOfMemory: false });
    });
    await expect(packages.install("big", { ...quiet, signal })).rejects.toMatchObject({
      code: "disk-full",
      message: "The disk is almost full",
    });
  });

  it("opens the way to the host of a git URL, and to none otherwise", async () => {
    hosts.splice(0);
    const packages = installer(() => Promise.resolve({ code: 0, outOfMemory: false }));
    await packages.install("git+https://example.org/a", { ...quiet, signal });
    await packages.install("numpy", { ...quiet, signal });
    // The first is built, and what was built is installed by one that reaches no host.
    expect(hosts).toEqual([{ host: "example.org", port: 443 }, undefined, undefined]);
  });

  describe("where something has to be built", () => {
    /** What each step could write and see, in order. */
    const steps = async (requirement: string, codes: readonly number[], options = {}) => {
      scratches.splice(0);
      const taken: string[] = [];
      const run: RunInstaller = (args, { storage, seesWorkspace, onOutput }) => {
        const { step } = JSON.parse(args[0] ?? "") as { step: string };
        taken.push(`${step}: ${describeStorage(storage)}${seesWorkspace ? ", workspace" : ""}`);
        onOutput(`${step}\n`);
        return Promise.resolve({ code: codes[taken.length - 1], outOfMemory: false });
      };
      const outcome = await installer(run, options)
        .install(requirement, { ...quiet, signal })
        .catch((error: unknown) => messageOf(error));
      return { taken, outcome, scratches: [...scratches] };
    };
    const BUILD = ["build: writes scratch", "commit: writes packages, reads scratch"];

    it("builds where the packages can't be written, after nothing was found to do without", async () => {
      expect(await steps("docopt", [3, 0, 0])).toEqual({
        taken: ["wheels: writes packages", ...BUILD],
        outcome: "wheels\nbuild\ncommit",
        scratches: ["made", "removed"],
      });
    });

    it("commits nothing of a build that failed", async () => {
      expect(await steps("docopt", [3, 1])).toEqual({
        taken: ["wheels: writes packages", "build: writes scratch"],
        outcome: "wheels\nbuild",
        scratches: ["made", "removed"],
      });
    });

    it.for([
      ["git+https://example.org/a", BUILD],
      ["https://example.org/a-1.tar.gz", BUILD],
      ["a @ https://example.org/a-1.zip", BUILD],
      ["./a", ["build: writes scratch, workspace", "commit: writes packages, reads scratch"]],
      ["./a-1.tar.gz", ["build: writes scratch, workspace", "commit: writes packages, reads scratch"]],
    ] as const)("begins with that for %s", async ([requirement, expected]) => {
      expect((await steps(requirement, [0, 0])).taken).toEqual(expected);
    });

    it.for([
      "a",
      "https://example.org/a-1-py3-none-any.whl",
      "a[x] @ https://example.org/a-1-py3-none-any.whl#sha256=00",
    ])("takes one step for %s", async (requirement) => {
      expect(await steps(requirement, [0])).toMatchObject({ taken: ["wheels: writes packages"], scratches: [] });
    });

    it("builds nothing where it may not", async () => {
      const { taken } = await steps("git+https://example.org/a", [1], { builds: false });
      expect(taken).toEqual(["wheels: writes packages"]);
    });
  });

  it("refuses a URL that code in a cell chose, unless its host is admitted", async () => {
    const packages = installer(() => Promise.resolve({ code: 0, outOfMemory: false }));
    const options = { ...quiet, signal, origin: "kernel" as const };
    await expect(packages.install("git+https://example.org/a", options)).rejects.toMatchObject({
      code: "invalid-requirement",
      hint: expect.stringContaining("--allow-domain example.org") as unknown,
    });
    await expect(packages.install("git+https://example.org:8443/a", options)).rejects.toMatchObject({
      hint: expect.stringMatching(/--allow-domain example\.org:8443$/) as unknown,
    });
    await packages.install("git+https://example.org/a", { ...options, admitsHost: (host) => host === "example.org" });
    await packages.install("numpy", options);
  });

  it("says which option admits a host with a private address, where the installer could not reach it", async () => {
    const packages = installer((_args, { onOutput }) => {
      onOutput("fatal: unable to access 'https://example.org:8443/a/': CONNECT tunnel failed, response 403\n");
      return Promise.resolve({ code: 1, outOfMemory: false });
    });
    await expect(packages.install("git+https://example.org:8443/a", { ...quiet, signal })).rejects.toMatchObject({
      hint: expect.stringMatching(/--allow-private example\.org:8443$/) as unknown,
    });
  });

  it("ends what code in a cell asked for and never hangs up on, so that it keeps nobody waiting for ever", async () => {
    const running = new Deferred<undefined>();
    const endless: RunInstaller = (_args, { signal }) => {
      running.resolve(undefined);
      return new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
      );
    };
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      const asked = installer(endless).install("slow", { ...quiet, signal, origin: "kernel" });
      const refused = expect(asked).rejects.toMatchObject({
        code: "install-failed",
        message: expect.stringContaining("10 min") as unknown,
      });
      await running.promise;
      vi.advanceTimersByTime(600_000);
      await refused;
    } finally {
      vi.useRealTimers();
    }
    await installer(() => Promise.resolve({ code: 0, outOfMemory: false })).install("a", { ...quiet, signal });
  });

  it("runs one install at a time, also those of another server in the same workspace", async () => {
    let running = 0;
    let most = 0;
    const first = new Deferred<undefined>();
    const waiting = new Deferred<undefined>();
    const run: RunInstaller = async () => {
      most = Math.max(most, ++running);
      await first.promise;
      running -= 1;
      return { code: 0, outOfMemory: false };
    };
    const one = installer(run);
    const other = installer(run);
    // Either may be first to have the lock.
    const onProgress = (text: string) => {
      if (text.startsWith("Waiting")) waiting.resolve(undefined);
    };
    const options = { ...quiet, signal, onProgress };
    const installs = [one.install("a", options), one.install("b", options), other.install("c", options)];
    await waiting.promise;
    first.resolve(undefined);
    await Promise.all(installs);
    expect(most).toBe(1);
  });

  it("rejects with the reason of a cancelled wait and leaves the queue usable", async () => {
    const [running, done] = [new Deferred<undefined>(), new Deferred<undefined>()];
    const one = installer(async () => {
      running.resolve(undefined);
      await done.promise;
      return { code: 0, outOfMemory: false };
    });
    const other = installer(() => Promise.resolve({ code: 0, outOfMemory: false }));
    const started = one.install("a", { ...quiet, signal });
    await running.promise;
    const cancel = new AbortController();
    const cancelled = other.install("b", { ...quiet, signal: cancel.signal, onProgress: () => cancel.abort() });
    await expect(cancelled).rejects.toThrow();
    done.resolve(undefined);
    await started;
    await other.install("c", { ...quiet, signal });
  });
});

function describeStorage({ writes, scratch }: InstallerStorage): string {
  return `writes ${writes}${writes === "packages" && scratch ? ", reads scratch" : ""}`;
}
