import { describe, expect, it } from "vitest";
import { generateApi } from "../../../src/apigen/catalogue.ts";

const signal = new AbortController().signal;
const tools = [
  { name: "a-b", description: "first", inputSchema: { type: "object" } },
  { name: "a_b", inputSchema: true, outputSchema: { type: "object" } },
];

function answering(body: unknown, status = 200) {
  return { signal, post: () => Promise.resolve({ status, body }) };
}

describe("the API catalogue", () => {
  it("asks for a module of its own name for every tool, schemas as they are", async () => {
    const asked: unknown[] = [];
    const post = (path: string, body: unknown) => {
      asked.push(path, body);
      const modules = [
        { module: "a_b", fallback: null },
        { module: "a_b_2", fallback: "too large" },
      ];
      return Promise.resolve({ status: 200, body: { modules } });
    };
    await expect(generateApi("brave", tools, { post, signal })).resolves.toEqual([
      { tool: "a-b", module: "a_b", fallback: undefined },
      { tool: "a_b", module: "a_b_2", fallback: "too large" },
    ]);
    expect(asked).toEqual([
      "/ipybox/generate",
      {
        server: "brave",
        tools: [
          { name: "a-b", module: "a_b", description: "first", inputSchema: { type: "object" } },
          { name: "a_b", module: "a_b_2", inputSchema: true, outputSchema: { type: "object" } },
        ],
      },
    ]);
  });

  it("says the generator's own reason when it refuses", async () => {
    const refused = generateApi("brave", tools, answering({ error: "mcptools is a link" }, 422));
    await expect(refused).rejects.toMatchObject({
      code: "generation-failed",
      message: "The Python API of brave could not be generated: mcptools is a link",
    });
  });

  it.each([
    { why: "no object", body: "done" },
    { why: "modules missing", body: { modules: [] } },
    { why: "another module", body: { modules: [{ module: "os" }, { module: "a_b_2", fallback: null }] } },
    { why: "names swapped", body: { modules: ["a_b_2", "a_b"].map((module) => ({ module, fallback: null })) } },
    {
      why: "a fallback that is no text",
      body: { modules: ["a_b", "a_b_2"].map((module) => ({ module, fallback: 1 })) },
    },
  ])("rejects an answer that is not what was asked for: $why", async ({ body }) => {
    await expect(generateApi("brave", tools, answering(body))).rejects.toMatchObject({ code: "generation-failed" });
  });

  it("names the status when the answer has no reason", async () => {
    await expect(generateApi("brave", tools, answering(null, 500))).rejects.toThrow("status 500");
  });
});
