import { describe, expect, test } from "vitest";

import { kernelEnvironment, mergeVariables } from "../../../src/config/variables.ts";

const valueOf = (processEnv: Record<string, string>, file: string, name: string) =>
  mergeVariables(processEnv, file).get(name)?.value;

describe("mergeVariables", () => {
  test("lets the process environment win over the env file", () => {
    expect(mergeVariables({ A: "process" }, "A=file\nB=file").get("A")).toEqual({
      value: "process",
      fromEnvFile: false,
    });
    expect(mergeVariables({ A: "process" }, "A=file\nB=file").get("B")).toEqual({ value: "file", fromEnvFile: true });
  });

  test("reads a file that an editor of Windows wrote", () => {
    const file = '\uFEFFA=1\r\nB="two words"\r\nC=${A}${B}\r\n';
    const values = [...mergeVariables({}, file)].map(([name, { value }]) => [name, value]);
    expect(Object.fromEntries(values)).toEqual({ A: "1", B: "two words", C: "1two words" });
  });

  test("expands ${X} of the file from the file", () => {
    expect(valueOf({}, "HOST=example.org\nURL=https://${HOST}/${MISSING:-v1}", "URL")).toBe("https://example.org/v1");
  });

  test("never expands ${X} of the file from the process environment", () => {
    expect(valueOf({ HOST_SECRET: "s3cret" }, "LEAK=${HOST_SECRET}", "LEAK")).toBe("");
  });

  test("ends on variables that refer to each other", () => {
    expect(valueOf({}, "A=${B}\nB=${A}", "A")).toBe("${A}");
  });
});

describe("kernelEnvironment", () => {
  test("takes KERNEL_ENV_ variables, without the prefix, and nothing else", () => {
    const variables = mergeVariables({ KERNEL_ENV_X: "1", SECRET: "s" }, "KERNEL_ENV_Y=2\nKERNEL_ENV_X=file");
    expect(kernelEnvironment(variables)).toEqual({ X: "1", Y: "2" });
  });

  test("takes any name that an environment can have", () => {
    expect(kernelEnvironment(mergeVariables({ "KERNEL_ENV_a-b.c": "1", KERNEL_ENV_: "2" }, undefined))).toEqual({
      "a-b.c": "1",
    });
  });

  test("lets PATH be overridden", () => {
    expect(kernelEnvironment(mergeVariables({ KERNEL_ENV_PATH: "/x" }, undefined))).toEqual({ PATH: "/x" });
  });

  test.for(["KERNEL_ENV_HOME", "KERNEL_ENV_PYTHONPATH", "KERNEL_ENV_LD_PRELOAD"])(
    "refuses %s, which the runtime needs",
    (name) => {
      expect(() => kernelEnvironment(mergeVariables({ [name]: "x" }, undefined))).toThrow(name);
    },
  );
});
