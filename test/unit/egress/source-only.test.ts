import { expect, it } from "vitest";
import { parseProjectPage } from "../../../src/egress/simple-index.ts";
import { isSourceOnlyMark, withSourceOnlyMarks } from "../../../src/egress/source-only.ts";

it.for([
  ["a version without wheels", "a-b", ["a-b-2.0.tar.gz"], ["a_b-2.0-py3-none-any.whl"]],
  ["an archive of another spelling", "a-b", ["A.B-2.0.zip"], ["a_b-2.0-py3-none-any.whl"]],
  ["wheels for some platforms", "a", ["a-1.tar.gz", "a-1-cp39-cp39-win32.whl"], ["a-1-py3-none-any.whl"]],
  ["a wheel for another Python", "a", ["a-1.tar.gz", "a-1-py2-none-any.whl"], ["a-1-py3-none-any.whl"]],
  ["an older version with a wheel", "a", ["a-2.tar.gz", "a-1-py3-none-any.whl"], ["a-2-py3-none-any.whl"]],
  ["a wheel for all", "a", ["a-1.tar.gz", "a-1-py3-none-any.whl"], []],
  ["a wheel for all of both lines", "a", ["a-1.tar.gz", "a-1-py2.py3-none-any.whl"], []],
  ["a wheel with a build number", "a", ["a-1.tar.gz", "a-1-2-py3-none-any.whl"], []],
  ["a version that is spelt otherwise", "a", ["a-2024.01.0.tar.gz", "a-2024.1-py3-none-any.whl"], []],
  ["a wheel alone", "a", ["a-1-cp39-cp39-win32.whl"], []],
  ["an archive of something else", "a", ["b-1.tar.gz", "a1.tar.gz", "a-1.exe"], []],
] as const)("marks what has to be built: %s", ([, project, filenames, expected]) => {
  const page = filenames.map((name) => `<a href="/${name}#sha256=00" data-requires-python="&gt;=3.9">${name}</a>`);
  const files = parseProjectPage(page.join("\n"), "text/html", new URL("https://index.example/simple/a/"));
  const marks = withSourceOnlyMarks(project, files).filter(isSourceOnlyMark);
  expect(marks.map(({ filename }) => filename)).toEqual(expected);
  for (const mark of marks) expect(mark).toMatchObject({ requiresPython: ">=3.9", hashes: {}, coreMetadata: false });
});
