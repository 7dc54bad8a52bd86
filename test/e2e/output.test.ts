import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, vi } from "vitest";

import { metaOf, type TestClient, textOf } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

const spilled = ({ workspace }: TestClient, text: string) => {
  const [, path = ""] = /full output: (\.ipybox\/out\/[\w-]+\.txt)\]/.exec(text) ?? [];
  return readFileSync(join(workspace, path), "utf8");
};
const named = (text: string) => [...text.matchAll(/^- \[[^\]]+\]\((images\/[^)]+)\)$/gm)].map(([, path = ""]) => path);

describe("displays", () => {
  test("start on a line of their own, whatever was printed before and after", async ({ client }) => {
    expect(await client.text("print('a', end='')\ndisplay('one')\nprint('b', end='')\ndisplay('two')\n'three'")).toBe(
      "a\n'one'\nb\n'two'\n'three'",
    );
  });

  test("are cleared and updated as in a notebook", async ({ client }) => {
    const imports = "from IPython.display import clear_output, display\n";
    expect(await client.text(`${imports}print('old')\nclear_output()\nprint('new')`)).toBe("new");
    expect(await client.text(`${imports}print('kept')\nclear_output(wait=True)`)).toBe("kept");
    const updates = `${imports}h = display('first', display_id=True)\nprint('after')\nh.update('second')`;
    expect(await client.text(updates)).toBe("'second'\nafter");
  });

  test("collapse progress bars and carry no ANSI sequences", async ({ client }) => {
    const bar = "import sys\nfor i in range(101): print(f'\\r{i}%', end='', file=sys.stderr)\nprint()\n";
    expect(await client.text(`${bar}print('\\x1b[31mred\\x1b[0m')`)).toBe("100%\nred");
  });

  test("fall back to HTML where there is no other text", async ({ client }) => {
    expect(await client.text("from IPython.display import HTML\nHTML('<b>bold</b>')")).toBe("<b>bold</b>");
  });
});

test("of what a cell has left running is shown in the next cell, and in one that lets it run", async ({ client }) => {
  const wait = "async def wait(seconds, text):\n    await asyncio.sleep(seconds)\n    print(text)\n";
  await client.cell(`import asyncio, os, subprocess\n${wait}task = asyncio.create_task(wait(0.01, 'of a task'))`);
  expect(await client.text("await task\nprint('own')")).toBe("of a task\nown");
  const background = "subprocess.Popen('while [ ! -e go ]; do :; done; echo of a process; touch gone', shell=True)";
  expect(await client.text(`print('started')\n${background};`)).toBe("started");
  writeFileSync(join(client.workspace, "go"), "");
  await vi.waitFor(() => expect(existsSync(join(client.workspace, "gone"))).toBe(true));
  expect(await client.text("'own'")).toBe("of a process\n'own'");
  expect(await client.text("'own'")).toBe("'own'");
});

test("of help is shown, which people get in a pager", async ({ client }) => {
  expect(await client.text("len?")).toContain("Return the number of items in a container.");
});

test("of a magic that was used wrongly says so once", async ({ client }) => {
  const wrong = "UsageError: Line magic function `%nope` not found.";
  const result = await client.cell("print('before')\n%nope x");
  expect([result.isError, textOf(result)]).toEqual([true, `before\n${wrong}`]);
});

describe("pictures", () => {
  const draw = (format: string, width: number, height: number) =>
    `import io, os\nfrom PIL import Image as Pillow\nfrom IPython.display import Image, SVG, display\n` +
    `data = io.BytesIO()\nPillow.frombytes('RGB', (${width}, ${height}), os.urandom(${width * height * 3})).save(data, '${format}')\n` +
    `display(Image(data.getvalue()))\n`;

  test("are blocks and files in the order of their display, JPEG too, SVG as a file only", async ({ client }) => {
    const svg = `display(SVG('<svg xmlns="http://www.w3.org/2000/svg"/>'))\n`;
    const result = await client.cell(`${draw("PNG", 8, 8)}${svg}${draw("JPEG", 8, 8)}print('end')`);
    const paths = named(textOf(result));
    expect(paths.map((path) => path.split(".").at(-1))).toEqual(["png", "svg", "jpg"]);
    const images = result.content.filter((block) => block.type === "image");
    expect(images.map(({ mimeType }) => mimeType)).toEqual(["image/png", "image/jpeg"]);
    for (const [index, path] of [paths[0], paths[2]].entries())
      expect(readFileSync(join(client.workspace, path ?? "")).toString("base64")).toBe(images[index]?.data);
    expect(readFileSync(join(client.workspace, paths[1] ?? ""), "utf8")).toContain("<svg");
  });

  test("of a cell that fails are shown", async ({ client }) => {
    const result = await client.cell(`${draw("PNG", 8, 8)}1/0`);
    expect(result.isError).toBe(true);
    expect(result.content.map(({ type }) => type)).toEqual(["text", "image"]);
    expect(textOf(result)).toMatch(/division by zero\nGenerated images:\n- /);
  });

  test.for(["PNG", "JPEG"])(
    "of more than 1 MiB are scaled down in the block, not in the file (%s)",
    async (format, { client }) => {
      const result = await client.cell(`${draw(format, 2000, 1500)}print(len(data.getvalue()))`);
      const [path = ""] = named(textOf(result));
      const file = readFileSync(join(client.workspace, path));
      expect(textOf(result)).toMatch(new RegExp(`^${file.length}\n`));
      const [image] = result.content.filter((block) => block.type === "image");
      const block = Buffer.from(image?.data ?? "", "base64");
      expect(block.length).toBeGreaterThan(100_000);
      expect(block.length).toBeLessThanOrEqual(2 ** 20);
      expect(block.subarray(0, 3)).toEqual(file.subarray(0, 3));
    },
  );

  test("that are none are left out and harm nothing", async ({ client }) => {
    const bundle = "display({'image/png': 'bm8gcG5n'}, raw=True)\n";
    const result = await client.cell(`${bundle}print('still here')`);
    expect(result.content).toEqual([{ type: "text", text: "still here" }]);
  });
});

describe("the budget", () => {
  test("may be 0", async ({ client }) => {
    const result = await client.cell("print('abc')", { max_output_chars: 0 });
    expect(textOf(result)).toMatch(/^\[Output truncated: 0 of 3 characters shown; full output: /);
    expect(spilled(client, textOf(result))).toBe("abc");
  });

  test("counts characters and holds for tracebacks", async ({ client }) => {
    const smileys = textOf(await client.cell("print('😀' * 20)", { max_output_chars: 5 }));
    expect(smileys.startsWith("😀😀😀😀😀\n[Output truncated: 5 of 20 ")).toBe(true);
    const failed = await client.cell("raise ValueError('x' * 5000)", { max_output_chars: 1000 });
    expect(failed.isError).toBe(true);
    expect(textOf(failed)).toContain("[Output truncated: 1000 of ");
    expect(spilled(client, textOf(failed))).toContain("x".repeat(5000));
  });

  test("lets the whole of a 64 MB line through to the spill", async ({ client }) => {
    const result = await client.cell("print('y' * (64 * 2**20))", { max_output_chars: 100 });
    const whole = spilled(client, textOf(result));
    expect(whole.length).toBe(64 * 2 ** 20);
    expect(whole.replaceAll("y", "")).toBe("");
  });

  test("lets the whole of 50,000 flushed lines through to the spill", async ({ client }) => {
    const result = await client.cell("for i in range(50_000): print(i, flush=True)", { max_output_chars: 100 });
    expect(spilled(client, textOf(result))).toBe(Array.from({ length: 50_000 }, (_, i) => i).join("\n"));
  });

  test("ends at 256 MB, where the cell is interrupted", async ({ client }) => {
    const result = await client.cell("kept = 1\nwhile True: print('x' * 10**6)", { max_output_chars: 10 });
    expect(textOf(result).split("\n").at(-1)).toBe("[Output limit of 256 MB exceeded: the cell was interrupted]");
    expect(metaOf(result)).toMatchObject({ status: "error", stateKept: true });
    expect(await client.text("kept")).toBe("1");
  });

  test("keeps the newest spills and removes the oldest", async ({ client }) => {
    for (let i = 0; i < 101; i += 1) await client.cell(`print('spill ${i}')`, { max_output_chars: 0 });
    const spills = readdirSync(join(client.workspace, ".ipybox/out"));
    expect(spills).toHaveLength(100);
    expect(readFileSync(join(client.workspace, ".ipybox/.gitignore"), "utf8")).toBe("*\n");
  });
});

/** On a busy machine a cell may take ten times as long. */
const TEN_THOUSAND_CELLS = { timeout: 900_000 };

test("10,000 cells lose none of their outputs", TEN_THOUSAND_CELLS, async ({ client }) => {
  for (let start = 0; start < 10_000; start += 20) {
    const texts = await Promise.all(
      Array.from({ length: 20 }, (_, i) => client.text(i % 2 === 0 ? `print(${start + i})` : String(start + i))),
    );
    expect(texts).toEqual(Array.from({ length: 20 }, (_, i) => String(start + i)));
  }
});
