import { describe, expect, it } from "vitest";
import { parseProjectPage, renderProjectPage } from "../../../src/egress/simple-index.ts";

const PAGE = new URL("https://index.example/simple/six/");

describe("a project page", () => {
  it("is read from PEP 691 JSON", () => {
    const body = JSON.stringify({
      meta: { "api-version": "1.1" },
      name: "six",
      versions: ["1.0"],
      files: [
        {
          filename: "six-1.0-py3-none-any.whl",
          url: "../../files/six-1.0-py3-none-any.whl",
          hashes: { sha256: "ab" },
          "requires-python": ">=3",
          yanked: "broken",
          "core-metadata": { sha256: "cd" },
          size: 7,
        },
        { filename: "six-1.0.tar.gz", url: "https://files.example/six-1.0.tar.gz", hashes: {} },
      ],
    });
    const [wheel, sdist] = parseProjectPage(body, "application/vnd.pypi.simple.v1+json", PAGE);
    expect(wheel).toMatchObject({
      filename: "six-1.0-py3-none-any.whl",
      url: new URL("https://index.example/files/six-1.0-py3-none-any.whl"),
      hashes: { sha256: "ab" },
      requiresPython: ">=3",
      yanked: "broken",
      coreMetadata: { sha256: "cd" },
      size: 7,
    });
    expect(sdist).toMatchObject({ yanked: false, coreMetadata: false, requiresPython: undefined });
  });

  it("is read from PEP 503 HTML", () => {
    const body = `<!DOCTYPE html><html><head><base href="https://cdn.example/"></head><body>
      <a href="f/six-1.0-py3-none-any.whl#sha256=ABCD" data-requires-python="&gt;=3.7" data-core-metadata="sha256=ef"
         data-yanked="">six-1.0-py3-none-any.whl</a><br/>
      <A HREF='f/six-1.0.tar.gz'>six-1.0.tar.gz</A>
      <a href="javascript:alert(1)">evil.whl</a> <a href="f/x">../../etc/passwd</a></body></html>`;
    const files = parseProjectPage(body, "text/html; charset=utf-8", PAGE);
    expect(files).toHaveLength(2);
    expect(files[0]).toMatchObject({
      url: new URL("https://cdn.example/f/six-1.0-py3-none-any.whl"),
      hashes: { sha256: "abcd" },
      requiresPython: ">=3.7",
      yanked: true,
      coreMetadata: { sha256: "ef" },
    });
    expect(files[1]).toMatchObject({ filename: "six-1.0.tar.gz", hashes: {}, yanked: false });
  });

  it("is read with signs in attributes that indexes need not escape", () => {
    const body = `<a data-requires-python=">=3.9" href="a-1.tar.gz" rel=internal>a-1.tar.gz</a><a href='a-2.tar.gz'/>`;
    const files = parseProjectPage(body, "text/html", PAGE);
    expect(files.map(({ filename, requiresPython }) => [filename, requiresPython])).toEqual([
      ["a-1.tar.gz", ">=3.9"],
      ["a-2.tar.gz", undefined],
    ]);
  });

  it.for([
    ["anchors without an end", "<a "],
    ["bases without an end", "<base "],
    ["quotes without an end", '<a x="'],
    ["mixed quotes", `<a x="' `],
    ["quotes and signs", `<a x='="<a'`],
    ["anchors that are not closed", "<a x>"],
    ["white space", "  <a =  "],
    ["one long word", "a"],
    ["entities without an end", "<a x>&amp"],
  ] as const)("takes time in proportion to its length: %s", ([, piece]) => {
    // It was minutes for a twentieth of it, more than a test may take.
    expect(parseProjectPage(`<a ${piece.repeat(2_000_000 / piece.length)}`, "text/html", PAGE)).toEqual([]);
  });

  it("is rendered as JSON with other addresses, everything else kept", () => {
    const files = parseProjectPage(
      '<a href="/a-1.tar.gz#sha256=ab" data-requires-python="&lt;4">a-1.tar.gz</a>',
      "text/html",
      PAGE,
    );
    const rendered = renderProjectPage("a", files, () => "/files/token/a-1.tar.gz");
    expect(rendered).not.toContain("index.example");
    const again = parseProjectPage(rendered, "application/vnd.pypi.simple.v1+json", PAGE);
    expect(again[0]).toMatchObject({ hashes: { sha256: "ab" }, requiresPython: "<4" });
  });

  it("of another shape is an error", () => {
    expect(() => parseProjectPage('{"files": 3}', "application/json", PAGE)).toThrow();
  });
});
