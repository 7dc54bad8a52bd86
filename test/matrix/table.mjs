// What became of the matrix' rows. An outcome is {name, durationMs} and one of: {passed, failed, skipped, failures, error?}
// of tests that ran, {error} of a row that ended without, {missing: REASON} of what this machine can't have, nothing more
// of a row that was not run.

/**
 * Runs rows one after the other. One that throws has failed, and the next one runs. `onOutcome` is told after each row what
 * is known of all. Once `signal` is aborted, no other row is begun.
 */
export async function runRows(rows, { run, now = Date.now, onOutcome = () => undefined, signal }) {
  const outcomes = rows.map(({ name }) => ({ name }));
  for (const [index, row] of rows.entries()) {
    if (signal?.aborted) break;
    const startedAt = now();
    const outcome = await run(row).catch((error) => ({
      error: error instanceof Error ? error.message : String(error),
    }));
    outcomes[index] = { name: row.name, ...outcome, durationMs: now() - startedAt };
    onOutcome(outcomes);
  }
  return outcomes;
}

/** What vitest's report of a row says. */
export function outcomeOf(report) {
  const {
    numPassedTests: passed,
    numFailedTests: failed,
    numPendingTests,
    numTodoTests,
    success,
    testResults,
  } = report;
  const failures = testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = name.split("/test/").at(-1);
    const tests = assertionResults.filter((test) => test.status === "failed").map(({ fullName }) => fullName);
    if (tests.length === 0 && status === "failed") tests.push(message ?? "did not run");
    return tests.map((test) => `${file}: ${oneLine(test)}`);
  });
  const outcome = { passed, failed, skipped: numPendingTests + numTodoTests, failures };
  if (failed > 0) return outcome;
  if (!success) return { ...outcome, error: "vitest failed outside of tests" };
  return passed > 0 ? outcome : { ...outcome, error: "no test was run" };
}

/** Whether a row says that something does not work. */
export function hasFailed({ error, failed = 0 }) {
  return error !== undefined || failed > 0;
}

/** A line for each row, what failed in it, and a last line that counts the rows. */
export function formatTable(outcomes) {
  const lines = outcomes.map((outcome) => [
    outcome.name,
    verdictOf(outcome),
    outcome.durationMs === undefined ? "–" : duration(outcome.durationMs),
  ]);
  const widths = [0, 1].map((column) => Math.max(...lines.map((line) => line[column].length)));
  const table = lines.map(
    ([name, verdict, time]) => `${name.padEnd(widths[0])}  ${verdict.padEnd(widths[1])}  ${time}`,
  );
  const failures = outcomes.flatMap(({ name, failures = [] }) => failures.map((failure) => `  ${name}: ${failure}`));
  return [...table, ...failures, summary(outcomes)].join("\n");
}

function verdictOf({ passed, failed = 0, skipped = 0, error, missing }) {
  if (missing !== undefined) return `not here: ${oneLine(missing)}`;
  const counts = passed === undefined ? [] : [`${passed} passed`, `${failed} failed`];
  if (skipped > 0) counts.push(`${skipped} skipped`);
  if (error !== undefined) counts.push(`FAILED: ${oneLine(error)}`);
  return counts.length === 0 ? "not run" : counts.join(", ");
}

function summary(outcomes) {
  const count = (isOne) => outcomes.filter(isOne).length;
  const failed = count(hasFailed);
  const missing = count((outcome) => outcome.missing !== undefined);
  const left = count((outcome) => outcome.durationMs === undefined);
  const others = [
    [missing, "not here"],
    [left, "not run"],
  ].filter(([number]) => number > 0);
  const words = [`${failed} failed`, ...others.map(([number, what]) => `${number} ${what}`)];
  const total = outcomes.reduce((sum, { durationMs = 0 }) => sum + durationMs, 0);
  const passed = outcomes.length - failed - missing - left;
  return `${passed} of ${outcomes.length} rows passed, ${words.join(", ")}, in ${duration(total)}`;
}

function duration(ms) {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

function oneLine(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 300 ? `${line.slice(0, 300)}…` : line;
}
