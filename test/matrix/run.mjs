// Runs the engine contract and end-to-end tests on every engine that this machine can have, each with data of its own,
// and prints a row for each: `node test/matrix/run.mjs [WORD…]` runs those whose names contain one of the words, and of their
// tests those whose paths contain one of the words with a slash (`podman e2e/cells`). Needs root.
// What is known so far is in reports/matrix.txt after each row.
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Place, ROOT, run, Unavailable } from "./place.mjs";
import { ROWS } from "./rows.mjs";
import { formatTable, hasFailed, outcomeOf, runRows } from "./table.mjs";

/** Several times what the slowest row takes: a row that hangs costs no other its turn. */
const ROW_MS = 30 * 60_000;
const TABLE = join(ROOT, "reports/matrix.txt");

const words = process.argv.slice(2);
const [named, only] = [(word) => !word.includes("/"), (word) => word.includes("/")].map((is) => words.filter(is));
const matches = (text, parts) => parts.length === 0 || parts.some((part) => text.includes(part));
const rows = ROWS.filter(({ name }) => matches(name, named))
  .map((row) => ({ ...row, tests: row.tests.filter((test) => matches(test, only)) }))
  .filter(({ tests }) => tests.length > 0);
if (rows.length === 0) {
  console.error(`No row is called so. There are:\n${ROWS.map(({ name }) => `  ${name}`).join("\n")}`);
  process.exit(2);
}
const commit = run("git", ["-C", ROOT, "log", "-1", "--format=%h %s"]).stdout.trim();
const title = `Matrix of ${new Date().toISOString()}, commit ${commit}\n\n`;

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.once(signal, () => stop.abort(new Error(`ended by ${signal}`)));
/** Fails the row that is running. */
let fail = () => undefined;
process.on("uncaughtException", (error) => fail(error));
const outcomes = await runRows(rows, { run: runRow, onOutcome: write, signal: stop.signal });
write(outcomes);
console.log(`\n${title}${formatTable(outcomes)}`);
process.exitCode = stop.signal.aborted || outcomes.some(hasFailed) ? 1 : 0;

function write(outcomes) {
  try {
    mkdirSync(join(ROOT, "reports"), { recursive: true }); // other runs clear it
    writeFileSync(TABLE, `${title}${formatTable(outcomes)}\n`);
  } catch (error) {
    console.error(`${TABLE} can't be written: ${error.message}`); // it is printed at the end all the same
  }
}

async function runRow({ name, tests, env = {}, start }) {
  console.log(`\n== ${name}`);
  const files = tests.map((test) => `test/${test}.test.ts`);
  const missing = files.filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) throw new Error(`there is no ${missing.join(", ")}`);
  const ended = new AbortController();
  fail = (reason) => ended.abort(reason);
  const timer = setTimeout(() => fail(new Error(`not done after ${ROW_MS / 60_000} min`)), ROW_MS);
  stop.signal.addEventListener("abort", () => fail(stop.signal.reason));
  const place = new Place();
  ended.signal.addEventListener("abort", () => void place.remove());
  try {
    const engine = await start?.(place);
    const TMPDIR = engine?.TMPDIR ?? place.makeTemporaryDirectory();
    const outcome = await runTests(place, files, { ...env, ...engine, TMPDIR });
    ended.signal.throwIfAborted();
    return outcome;
  } catch (error) {
    ended.signal.throwIfAborted();
    if (error instanceof Unavailable) return { missing: error.message };
    throw error;
  } finally {
    clearTimeout(timer);
    await place.remove();
  }
}

async function runTests(place, files, env) {
  const report = place.at("report.json");
  const projects = [...new Set(files.map((path) => path.split("/")[1]))].flatMap((name) => ["--project", name]);
  const reporting = ["--no-file-parallelism", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const vitest = ["npx", "--no-install", "vitest", "run", ...projects, ...files, ...reporting];
  const [program, ...args] = place.command(env, ...vitest);
  const options = { cwd: place.copyCheckout(), stdio: "inherit", env: { ...process.env, ...env } };
  const [code, signal] = await once(place.spawn(program, args, options), "exit");
  if (!existsSync(report)) throw new Error(`vitest ended before the first test (${signal ?? `exit code ${code}`})`);
  return outcomeOf(JSON.parse(readFileSync(report, "utf8")));
}
