import { describe, expect, test } from "vitest";

import { OutputFolder } from "../../../src/kernel/cell-output.ts";

const fold = (fill: (folder: OutputFolder) => void) => {
  const folder = new OutputFolder();
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

  test("takes a picture as a picture, and SVG as text", () => {
    const { text, pictures } = fold((folder) => {
      folder.display({ data: { "image/png": "aGk=", "text/plain": "<Figure>" }, transient: {} });
      folder.display({ data: { "image/svg+xml": "<svg/>" }, transient: {} });
    });
    expect(pictures).toEqual([{ mimeType: "image/png", data: "aGk=" }]);
    expect(text).toBe("<svg/>");
  });
});
