import { expect, test } from "vitest";

// Plain JavaScript, so that it runs without a build step.
// @ts-expect-error -- it has no declarations
import * as table from "../matrix/table.mjs";

type Outcome = object;
type Run = (row: { name: string }) => Promise<Outcome>;
const { runRows, formatTable, outcomeOf } = table as {
  runRows: (
    rows: object[],
    options: { run: Run; now: () => number; onOutcome?: (all: Outcome[]) => void },
  ) => Promise<Outcome[]>;
  formatTable: (outcomes: Outcome[]) => string;
  outcomeOf: (report: object) => Outcome;
};
const rows = ["one", "two", "three"].map((name) => ({ name }));

test("a row of the matrix that throws is a failed row, and those after it run", async () => {
  let clockMs = 0;
  const run: Run = ({ name }) => {
    clockMs += 61_000;
    return name === "two" ? Promise.reject(new Error("no Python\nat all")) : Promise.resolve({ passed: 3 });
  };
  const outcomes = await runRows(rows, { run, now: () => clockMs });
  expect(formatTable(outcomes).split("\n")).toEqual([
    "one    3 passed, 0 failed        1 min 01 s",
    "two    FAILED: no Python at all  1 min 01 s",
    "three  3 passed, 0 failed        1 min 01 s",
    "2 of 3 rows passed, 1 failed, in 3 min 03 s",
  ]);
});

test("the matrix shows what is known after each row: a run may be ended before its table is whole", async () => {
  const known: string[] = [];
  const onOutcome = (all: Outcome[]) => known.push(formatTable(all));
  await runRows(rows, { run: () => Promise.resolve({ passed: 1 }), now: () => 0, onOutcome });
  expect(known).toHaveLength(3);
  expect(known[0]?.split("\n")).toEqual([
    "one    1 passed, 0 failed  0 min 00 s",
    "two    not run             –",
    "three  not run             –",
    "1 of 3 rows passed, 0 failed, 2 not run, in 0 min 00 s",
  ]);
});

test("a row's tests that failed are named under the matrix' table, and those left out are counted", () => {
  const report = {
    ...{ numPassedTests: 4, numFailedTests: 1, numPendingTests: 2, numTodoTests: 0, success: false },
    testResults: [
      {
        name: "/x/test/e2e/cells.test.ts",
        status: "failed",
        assertionResults: [{ status: "failed", fullName: "a cell runs" }],
      },
    ],
  };
  const text = formatTable([{ name: "one", durationMs: 0, ...outcomeOf(report) }]);
  expect(text).toContain("4 passed, 1 failed, 2 skipped");
  expect(text).toContain("one: e2e/cells.test.ts: a cell runs");
});

test("a row without a failed test has failed all the same where vitest says so, or where nothing was run", () => {
  const report = {
    numPassedTests: 4,
    numFailedTests: 0,
    numPendingTests: 0,
    numTodoTests: 0,
    success: false,
    testResults: [],
  };
  expect(outcomeOf(report)).toMatchObject({ error: "vitest failed outside of tests" });
  expect(outcomeOf({ ...report, numPassedTests: 0, success: true })).toMatchObject({ error: "no test was run" });
});

test("what this machine can't have is told with the reason, and is no failure", async () => {
  const outcomes = await runRows([{ name: "one" }], {
    run: () => Promise.resolve({ missing: "no gVisor" }),
    now: () => 0,
  });
  expect(formatTable(outcomes)).toContain("not here: no gVisor");
  expect(formatTable(outcomes)).toContain("0 of 1 rows passed, 0 failed, 1 not here");
});
