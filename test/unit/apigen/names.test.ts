import { describe, expect, it } from "vitest";
import { moduleNames } from "../../../src/apigen/names.ts";

describe("module names", () => {
  it.each([
    { tools: ["brave_web_search"], modules: ["brave_web_search"], because: "a good name stays" },
    { tools: ["tool-1"], modules: ["tool_1"], because: "other characters become underscores" },
    { tools: ["Get.Weather/now"], modules: ["get_weather_now"], because: "lower case" },
    { tools: ["a-b", "a_b", "A.B"], modules: ["a_b", "a_b_2", "a_b_3"], because: "collisions are numbered in order" },
    { tools: ["a-b", "a_b", "a_b_2"], modules: ["a_b", "a_b_2", "a_b_2_2"], because: "numbers collide too" },
    { tools: ["import", "class"], modules: ["import_", "class_"], because: "keywords" },
    { tools: ["import", "import_"], modules: ["import_", "import__2"], because: "renamed keywords collide" },
    { tools: ["None", "True"], modules: ["none", "true"], because: "no keywords in lower case" },
    { tools: ["2fa"], modules: ["_2fa"], because: "leading digit" },
    { tools: ["__init__", "__main__"], modules: ["_init_", "_main_"], because: "names that Python gives a meaning" },
    { tools: ["__INIT__"], modules: ["_init_"], because: "dunder after lowering" },
    { tools: ["--init--", "____"], modules: ["_init_", "__"], because: "dunder after replacing" },
    { tools: [""], modules: ["_"], because: "empty" },
    { tools: ["été", "日本", "😀"], modules: ["_t_", "__", "_"], because: "one underscore a character" },
    { tools: ["../../etc/passwd"], modules: ["______etc_passwd"], because: "no path" },
    { tools: ["İstanbul"], modules: ["_stanbul"], because: "no letters of other alphabets are lowered" },
  ])("$tools become $modules ($because)", ({ tools, modules }) => {
    expect(moduleNames(tools)).toEqual(modules);
  });

  it("are unique and short for names that differ only at their far end", () => {
    const names = moduleNames(["x".repeat(500), `${"x".repeat(500)}y`]);
    expect(new Set(names).size).toBe(2);
    expect(Math.max(...names.map((name) => name.length))).toBeLessThan(120);
  });
});
