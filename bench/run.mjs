// Measures ipybox and, beside it, the original from PyPI. `node bench/run.mjs [name…]` measures what is named (a file in
// measurements/ without its extension), everything otherwise; results.json keeps the other results as they were.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

import { describeMachine, watchLoad } from "./machine.mjs";
import { formatTable } from "./report.mjs";
import { summarize } from "./statistics.mjs";
import { NotThere, ours, peer, prune } from "./subjects.mjs";

/** The order of the rows. */
const NAMES = [
  "initialize",
  "first-cell",
  "trivial-cell",
  "trivial-cell-exec",
  "lost-outputs",
  "reset",
  "reset-without-spare",
  "register",
  "first-import",
  "tool-call",
  "tool-call-exec",
  "large-result",
  "concurrent-calls",
  "large-output",
  "flushed-lines",
  "cancel",
  "cancel-stubborn",
  "idle-memory",
  "install",
  "shutdown",
];

const RESULTS = join(import.meta.dirname, "results.json");
const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !NAMES.includes(name));
if (unknown.length > 0) {
  console.error(`no measurement ${unknown.join(", ")}; there are ${NAMES.join(", ")}`);
  process.exit(2);
}

const machine = describeMachine();
const subjects = [ours(), peer()];
console.log(`${machine}\n`);
const results = new Map(readResults().map((result) => [result.name, result]));
for (const name of asked.length > 0 ? asked : NAMES) {
  const { measurement } = await import(`./measurements/${name}.mjs`);
  const result = await measure(measurement);
  results.set(result.name, result);
  writeFileSync(RESULTS, `${JSON.stringify(await inOrder(results), null, 2)}\n`);
}
prune();
console.log(`\n${formatTable(readResults())}`);

async function measure({ name, unit, target, run }) {
  const [own, other] = [await samplesOf(run, subjects[0]), await samplesOf(run, subjects[1])];
  const [ourFigures, peerFigures] = [summarize(own.samples), summarize(other.samples)];
  const result = {
    name,
    unit,
    ours: ourFigures,
    peer: peerFigures,
    target,
    ratio: ourFigures && peerFigures && ourFigures.p50 > 0 ? round(peerFigures.p50 / ourFigures.p50) : null,
    ...(own.note && { note: own.note }),
    ...(other.note && { peerNote: other.note }),
    machine,
  };
  console.log(formatTable([result]).split("\n")[2]);
  return result;
}

/** Samples of one side; none where it does not have the operation, or loses what is asked of it. */
async function samplesOf(run, subject) {
  const load = watchLoad();
  try {
    const measured = await run(subject);
    const { samples, note } = Array.isArray(measured) ? { samples: measured } : measured;
    process.stderr.write(`  ${subject.name}: ${samples.length} samples, ${load()}\n`);
    return { samples, note };
  } catch (error) {
    if (!(error instanceof NotThere)) throw error;
    return { samples: [], note: error.message };
  }
}

function readResults() {
  try {
    return JSON.parse(readFileSync(RESULTS, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw error;
  }
}

async function inOrder(byName) {
  const names = await Promise.all(
    NAMES.map(async (name) => (await import(`./measurements/${name}.mjs`)).measurement.name),
  );
  return names.flatMap((name) => (byName.has(name) ? [byName.get(name)] : []));
}

function round(number) {
  return Number(number.toPrecision(3));
}
