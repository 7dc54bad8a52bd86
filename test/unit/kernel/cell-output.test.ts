import { describe, expect, test } from "vitest";

import { OutputFolder } from "../../../src/kernel/cell-output.ts";

const LIMIT = 8 * 2 ** 20;
const fold = (fill: (folder: OutputFolder) => void) => {
  const folder = new OutputFolder(LIMIT);
  fill(folder);
  return folder.fold();
};
const plain = (text: string, id?: string) => ({
  data: { "text/plain": text },
  transient: id === undefined ? {} : { display_id: id },
});

describe("OutputFolder", () => {
  test("keeps the order of arrival and drops trailing white space", () => {
    const { text } = fold((folder) => {
      folder.stream("out 1\n");
      folder.stream("err\n");
      folder.stream("out 2\n\n");
    });
    expect(text).toBe("out 1\nerr\nout 2");
  });

  test("starts every display on a line of its own", () => {
    const { text } = fold((folder) => {
      folder.stream("a");
      folder.display(plain("display"));
      folder.stream("b");
    });
    expect(text).toBe("a\ndisplay\nb");
  });

  test("collapses carriage returns to the last state of the line", () => {
    expect(fold((folder) => folder.stream(" 10%\r 20%\r100%\ndone\r\n")).text).toBe("100%\ndone");
    expect(fold((folder) => folder.stream("long line\rab")).text).toBe("abng line");
    expect(fold((folder) => folder.stream("50%\r")).text).toBe("50%");
  });

  test("collapses a progress bar that is written in pieces and ends before a display", () => {
    const { text } = fold((folder) => {
      for (const step of ["\r  0%", "\r 50%", "\r100%"]) folder.stream(step);
      folder.display(plain("done"));
    });
    expect(text).toBe("100%\ndone");
  });

  test("never leaves half a character where another is written over it or erased", () => {
    const last = (text: string) => fold((folder) => folder.stream(text)).text;
    expect(last("😀😀\rx")).toBe("x 😀");
    expect(last("😀😀\rab")).toBe("ab😀");
    expect(last("a😀\b\bb")).toBe("ab");
    expect(last("a😀\bb")).toBe("a b");
    expect(last("a😀\b\u001b[K")).toBe("a");
    expect(last("😀a\b\b\b\u001b[1K")).toBe("  a");
    expect(last("abc\r😀")).toBe("😀c");
  });

  test("erases what a program erased, and follows backspaces", () => {
    expect(fold((folder) => folder.stream("loading...\r\u001b[Kok")).text).toBe("ok");
    expect(fold((folder) => folder.stream("loading\u001b[2K\rok")).text).toBe("ok");
    expect(fold((folder) => folder.stream("|\b/\b-\bdone")).text).toBe("done");
    expect(fold((folder) => folder.stream("> abc\b\b\u001b[1Kx")).text).toBe("   xc");
    expect(fold((folder) => folder.stream("> abc\r\u001b[31m\u001b[1K<\u001b[0m")).text).toBe("< abc");
    expect(fold((folder) => folder.stream("> abc\u001b[2Kd\r.")).text).toBe(".    d");
  });

  test.for(["\rx", "\bx", "\u001b[1K\bx", "\u001b[2Kx", "\u001b[K\bx"])(
    "goes back in a long line at no cost: %j",
    (step) => {
      // Each of them once cost a copy of the line, and the server stood still for minutes.
      const { text } = fold((folder) => folder.stream("a".repeat(1e6) + step.repeat(1e6)));
      expect(text.at(-1)).toMatch(/[ax]/);
    },
  );

  test("keeps what follows a sequence that never ends", () => {
    expect(fold((folder) => folder.stream("a\u001b]b\nc")).text).toBe("ab\nc");
  });

  test("removes ANSI sequences and other control characters", () => {
    expect(fold((folder) => folder.stream("\u001b[31mred\u001b[0m \u001b]0;title\u0007\u0000x\ty")).text).toBe(
      "red x\ty",
    );
  });

  test("clears output at once, or when the next comes", () => {
    const cleared = (wait: boolean, next?: string) =>
      fold((folder) => {
        folder.stream("old");
        folder.clear(wait);
        if (next !== undefined) folder.stream(next);
      }).text;
    expect(cleared(false)).toBe("");
    expect(cleared(true)).toBe("old");
    expect(cleared(true, "new")).toBe("new");
  });

  test("updates a display in its place", () => {
    const { text } = fold((folder) => {
      folder.display(plain("first", "d"));
      folder.stream("after\n");
      folder.updateDisplay(plain("second", "d"));
      folder.updateDisplay(plain("stray", "unknown"));
    });
    expect(text).toBe("second\nafter");
  });

  test("lets what follows a display start on a line of its own, whatever came before it", () => {
    const { text } = fold((folder) => {
      folder.display(plain("one"));
      folder.display(plain("two\n"));
      folder.stream("three");
      folder.display(plain("four"));
    });
    expect(text).toBe("one\ntwo\n\nthree\nfour");
  });

  test("updates every display of an id, and one that a cleared output took along is gone", () => {
    const { text } = fold((folder) => {
      folder.display(plain("cleared", "d"));
      folder.clear(false);
      folder.updateDisplay(plain("stray", "d"));
      folder.display(plain("1", "e"));
      folder.display(plain("1", "e"));
      folder.updateDisplay(plain("2", "e"));
    });
    expect(text).toBe("2\n2");
  });

  test("takes a million updates among a hundred thousand displays", () => {
    // To look for each display took as long as there were displays, and the server stood still for minutes.
    const { text } = fold((folder) => {
      for (let i = 0; i < 100_000; i += 1) folder.display(plain("", String(i)));
      for (let i = 0; i < 1_000_000; i += 1) folder.updateDisplay(plain(String(i), "50000"));
    });
    expect(text).toBe("999999");
  });

  test("gives no more than the limit, however often a display of an id is shown", () => {
    const picture = { data: { "image/svg+xml": "<svg/>".padEnd(LIMIT / 8) }, transient: { display_id: "p" } };
    const { text, pictures } = fold((folder) => {
      for (let i = 0; i < 1000; i += 1) folder.display(plain("", "d"));
      folder.updateDisplay(plain("x".repeat(LIMIT / 2), "d"));
      for (let i = 0; i < 1000; i += 1) folder.display(picture);
    });
    expect(text).toHaveLength(LIMIT);
    expect(pictures).toHaveLength(8);
  });

  test.for([
    ["nested so deep that to write it would be the end", "[".repeat(100_000) + "]".repeat(100_000)],
    ["of numbers that are four times as long when they are written", `[${"1e20,".repeat(1e6)}1]`],
  ] as const)("does not write JSON %s", ([, json]) => {
    const data = {
      "application/json": JSON.parse(json) as unknown,
      "text/plain": "<IPython.core.display.JSON object>",
    };
    expect(fold((folder) => folder.display({ data, transient: {} })).text).toBe("<IPython.core.display.JSON object>");
  });

  test("shows the text of what is no picture", () => {
    const data = { "image/png": "cG5n", "image/jpeg": ["/9j/"], "text/plain": "instead" };
    expect(fold((folder) => folder.display({ data, transient: {} }))).toEqual({ text: "instead", pictures: [] });
  });

  test("takes pictures in order, one for each display, and needs no text beside them", () => {
    const { text, pictures } = fold((folder) => {
      folder.display({
        data: { "image/png": "iVBORw0KGgo=", "image/jpeg": "/9j/4A==", "text/plain": "<Figure>" },
        transient: {},
      });
      folder.stream("between\n");
      folder.display({ data: { "image/svg+xml": "<svg/>", "text/plain": "<SVG object>" }, transient: {} });
      folder.display({ data: { "image/jpeg": "/9j/4A==" }, transient: {} });
    });
    expect(pictures).toEqual([
      { mimeType: "image/png", data: "iVBORw0KGgo=" },
      { mimeType: "image/svg+xml", data: "<svg/>" },
      { mimeType: "image/jpeg", data: "/9j/4A==" },
    ]);
    expect(text).toBe("between");
  });

  test("falls back to richer text where the plain one says nothing", () => {
    const html = { "text/html": "<b>bold</b>" };
    const shown = (data: Record<string, unknown>) => fold((folder) => folder.display({ data, transient: {} })).text;
    expect(shown(html)).toBe("<b>bold</b>");
    expect(shown({ ...html, "text/plain": "<IPython.core.display.HTML object>" })).toBe("<b>bold</b>");
    expect(shown({ ...html, "text/plain": "<__main__.Table at 0x7fe107860590>" })).toBe("<b>bold</b>");
    expect(shown({ ...html, "text/plain": "<a.b.Map object at 0x7fe107860590>" })).toBe("<b>bold</b>");
    expect(shown({ ...html, "text/plain": "a table" })).toBe("a table");
    expect(shown({ "text/plain": "<__main__.Thing at 0x7fe107860590>" })).toBe("<__main__.Thing at 0x7fe107860590>");
    expect(shown({ "application/json": { a: 1 }, "text/plain": "<IPython.core.display.JSON object>" })).toBe('{"a":1}');
    expect(shown({ "text/plain": "<IPython.core.display.Javascript object>" })).toBe(
      "<IPython.core.display.Javascript object>",
    );
  });
});
