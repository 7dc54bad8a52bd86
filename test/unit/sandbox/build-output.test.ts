import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { followBuild } from "../../../src/sandbox/docker/build-output.ts";
import type { BuildStep } from "../../../src/sandbox/engine.ts";

async function follow(records: readonly object[], pieces = 1): Promise<BuildStep[]> {
  const steps: BuildStep[] = [];
  const bytes = Buffer.from(records.map((record) => `${JSON.stringify(record)}\r\n`).join(""));
  const size = Math.ceil(bytes.length / pieces);
  const chunks = Array.from({ length: pieces }, (_, index) => bytes.subarray(index * size, (index + 1) * size));
  await followBuild(Readable.from(chunks), (step) => steps.push(step));
  return steps;
}

describe("the output of a build", () => {
  it.each([1, 7, 50])("becomes its steps, in %i pieces", async (pieces) => {
    const steps = await follow(
      [
        { stream: "Step 1/3 : FROM debian" },
        { stream: "\n" },
        { stream: " ---> 1234\nStep 2/3 : RUN a     &&     b\n" },
        { aux: { ID: "sha256:1" } },
        { stream: "Successfully built 1234\n" },
      ],
      pieces,
    );
    expect(steps).toEqual([
      { message: "FROM debian", step: { current: 1, total: 3 } },
      { message: "RUN a && b", step: { current: 2, total: 3 } },
    ]);
  });

  it("is shortened to one line without control sequences", async () => {
    const [step] = await follow([{ stream: `Step 1/1 : RUN \u001b[31m${"x".repeat(500)}\n` }]);
    expect(step?.message).toMatch(/^RUN x+…$/);
    expect(step?.message.length).toBeLessThanOrEqual(120);
  });

  it("that ends in an error rejects with the reason and the last lines", async () => {
    const lines = Array.from({ length: 50 }, (_, index) => ({ stream: `line ${index}\n` }));
    await expect(follow([...lines, { error: "exit code 1", errorDetail: { code: 1 } }])).rejects.toMatchObject({
      name: "BuildFailure",
      message: "exit code 1",
      lastLines: Array.from({ length: 20 }, (_, index) => `line ${index + 30}`).join("\n"),
    });
  });

  it("of a pull becomes its states", async () => {
    expect(await follow([{ status: "Pulling from library/debian", id: "trixie" }])).toEqual([
      { message: "Pulling from library/debian" },
    ]);
  });
});
