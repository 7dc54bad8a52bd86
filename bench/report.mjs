const HEADER = ["", "ipybox", "p95", "limit", "original", "p95", "ratio"];

/** The table, with the machines that its figures are from. */
export function formatReport(results) {
  const machines = [...new Set(results.map(({ machine }) => machine))];
  return [`Measured on ${machines.join("; and on ")}.`, "", formatTable(results)].join("\n");
}

/** The results as a Markdown table, columns aligned; what has to be said about a figure stands below it. */
export function formatTable(results) {
  const notes = [];
  const mark = (text) => {
    if (text === undefined) return "";
    if (!notes.includes(text)) notes.push(text);
    return ` [${notes.indexOf(text) + 1}]`;
  };
  const rows = results.map(({ name, unit, ours, peer, target, ratio, note, peerNote }) => [
    name,
    `${figure(ours?.p50, unit)}${mark(note)}`,
    figure(ours?.p95, unit),
    figure(target?.p50 ?? target, unit),
    `${figure(peer?.p50, unit)}${mark(peerNote)}`,
    figure(peer?.p95, unit),
    ratio === null ? "" : `${ratio}`,
  ]);
  const widths = HEADER.map((title, column) => Math.max(3, title.length, ...rows.map((row) => row[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const table = [line(HEADER), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)];
  return [...table, ...notes.flatMap((note, index) => ["", `[${index + 1}] ${note}`])].join("\n");
}

function figure(value, unit) {
  if (value === undefined || value === null) return "–";
  if (unit === "ms" && value >= 1000) return `${Number((value / 1000).toPrecision(3))} s`;
  return `${Number(value.toPrecision(3))}${unit === "" ? "" : ` ${unit}`}`;
}
