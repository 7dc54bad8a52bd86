import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Deferred } from "../../../src/common/lifecycle.ts";
import type { TaskOptions } from "../../../src/sandbox/engine.ts";
import { type DockerUnderTest, docker, makeDockerUnderTest } from "./docker-harness.ts";
import { makeImagesDirectory, removeImage } from "./fixture-image.ts";

const signal = new AbortController().signal;
const quiet = { signal, onProgress: () => undefined };
let kernel: DockerUnderTest;
let kernelTag = "";
beforeAll(async () => {
  kernel = await makeDockerUnderTest();
  kernelTag = await kernel.engine.buildImage(quiet);
}, 900_000);
afterAll(() => kernel[Symbol.asyncDispose]());

/** An engine whose kernel image is the real one and a few lines more. */
async function withImage(files: Readonly<Record<string, string>>): Promise<DockerUnderTest> {
  const imagesDir = await makeImagesDirectory(kernel.stack, files);
  return await makeDockerUnderTest({ imagesDir, baseImage: kernelTag });
}

describe("a task", () => {
  let subject: DockerUnderTest;
  beforeAll(async () => {
    subject = await withImage({
      Dockerfile:
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY ipybox_sandbox/probe.py /opt/ipybox/lib/ipybox_sandbox/probe.py\n",
      "ipybox_sandbox/probe.py": await readFile(join(import.meta.dirname, "probe.py"), "utf8"),
    });
    const tag = await subject.engine.buildImage(quiet);
    kernel.stack.defer(() => removeImage(tag));
  });
  afterAll(() => subject[Symbol.asyncDispose]());
  afterEach(async () => expect(await subject.leftovers()).toEqual([]));

  const run = async (options: Partial<TaskOptions> = {}, seesWorkspace = true) => {
    const workspace = await subject.makeWorkspace();
    const secret = join(workspace.path, ".env");
    await writeFile(secret, "SECRET=1");
    const spec = await subject.newSpec({ workspace: { ...workspace, masked: [secret] } });
    const output: string[] = [];
    const result = await subject.engine.runTask(
      { ...spec, module: "probe", args: ["a", "b c"], seesWorkspace, storage: { writes: "packages" } },
      {
        signal,
        onOutput: (text) => output.push(text),
        onEgressConnection: (stream) => stream.on("data", () => stream.end("from the host\n")),
        ...options,
      },
    );
    return { result, output: output.join("") };
  };

  it("writes the packages, sees the workspace read-only and masked, and has egress instead of the bridge", async () => {
    const { result, output } = await run();
    expect(result, output).toEqual({ code: 7, outOfMemory: false });
    expect(JSON.parse(output.split("\n")[0] ?? "")).toEqual({
      arguments: expect.arrayContaining(["a", "b c"]) as unknown, // behind where the paths are
      packages: "made",
      workspace: "Read-only file system",
      secret: "",
      egress: "from the host",
      bridge: false,
    });
    expect(output).toContain("to stderr");
  });

  it("sees nothing of a workspace that is none of its business", async () => {
    const { result, output } = await run({}, false);
    expect(result, output).toEqual({ code: 7, outOfMemory: false });
    expect(JSON.parse(output.split("\n")[0] ?? "")).toMatchObject({
      packages: "made",
      workspace: "Read-only file system",
      secret: "No such file or directory",
      egress: "from the host",
    });
  });

  it("is ended by its signal, and nothing is left of it", async () => {
    const controller = new AbortController();
    const connected = new Deferred<undefined>();
    const running = run({
      signal: controller.signal,
      onEgressConnection: () => connected.resolve(undefined), // and never answers
    });
    await connected.promise;
    controller.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
  });
});

describe("a sandbox that does not come up", () => {
  it("is an error with its exit code and last words, and nothing is left of it", async () => {
    const entrypoint = 'ENTRYPOINT ["/bin/sh", "-c", "echo the reason >&2; exit 3"]';
    const subject = await withImage({ Dockerfile: `ARG BASE_IMAGE\nFROM \${BASE_IMAGE}\n${entrypoint}\n` });
    const tag = await subject.engine.buildImage(quiet);
    const launching = subject.engine.launch(await subject.newSpec(), { signal, onBridgeConnection: () => undefined });
    await expect(launching).rejects.toMatchObject({
      code: "sandbox-start-failed",
      message: "The sandbox ended before it was ready (exit code 3):\nthe reason",
    });
    expect(await subject.leftovers()).toEqual([]);
    const roots = await readdir(subject.runtimeDir);
    for (const root of roots) expect(await readdir(join(subject.runtimeDir, root))).toEqual([]);
    await subject[Symbol.asyncDispose]();
    await removeImage(tag);
  });

  it("is an error of its own when the workspace is gone", async () => {
    const spec = await kernel.newSpec({ workspace: { path: "/nowhere/at/all", key: "k", masked: [], protected: [] } });
    await expect(kernel.engine.launch(spec, { signal, onBridgeConnection: () => undefined })).rejects.toMatchObject({
      code: "workspace-gone",
    });
  });

  it("names a mount whose source is gone", async () => {
    const spec = await kernel.newSpec({ mounts: [{ source: "/nowhere/at/all", target: "/data", readOnly: true }] });
    await expect(kernel.engine.launch(spec, { signal, onBridgeConnection: () => undefined })).rejects.toMatchObject({
      code: "engine-error",
      message: expect.stringContaining("/nowhere/at/all") as unknown,
    });
  });
});

describe("the kernel image", () => {
  it("that can't be built is an error with the last lines of the build", async () => {
    const subject = await withImage({
      Dockerfile: "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo the-reason; exit 9\n",
    });
    await expect(subject.engine.prepare(quiet)).rejects.toMatchObject({
      code: "image-build-failed",
      message: expect.stringMatching(/returned a non-zero code: 9[^]*the-reason/) as unknown,
    });
    await subject[Symbol.asyncDispose]();
  });

  it("that is given but not there is an error, and is never built", async () => {
    const subject = await makeDockerUnderTest({ image: "ipybox-test.invalid/none:1" });
    await expect(subject.engine.prepare(quiet)).rejects.toMatchObject({
      code: "image-build-failed",
      message: expect.stringContaining("ipybox-test.invalid/none:1") as unknown,
    });
    await subject[Symbol.asyncDispose]();
  });

  it("is built by one of two servers that need it at once, while the other waits", async () => {
    const files = { Dockerfile: `ARG BASE_IMAGE\nFROM \${BASE_IMAGE}\nENV UNIQUE=${Date.now()}\n` };
    const imagesDir = await makeImagesDirectory(kernel.stack, files);
    const engines = await Promise.all([1, 2].map(() => makeDockerUnderTest({ imagesDir, baseImage: kernelTag })));
    const steps: string[][] = [[], []];
    const tags = await Promise.all(
      engines.map(({ engine }, index) =>
        engine.buildImage({ signal, onProgress: (step) => steps[index]?.push(step.message) }),
      ),
    );
    expect(new Set(tags).size).toBe(1);
    const waiting = (messages: string[]) => messages.some((message) => message.startsWith("another ipybox process"));
    expect(steps.filter(waiting)).toHaveLength(1);
    expect(steps.filter((messages) => messages.some((message) => message.startsWith("FROM")))).toHaveLength(1);
    for (const { [Symbol.asyncDispose]: dispose } of engines) await dispose();
    await removeImage(tags[0] ?? "");
  });

  it("holds neither the host's certificates nor its proxies", async () => {
    const history: unknown = await docker.getImage(kernelTag).history();
    expect(JSON.stringify(history)).not.toMatch(/bundle\.pem|_proxy=/i);
  });
});
