// Runs every check and test there is, and ends with one line that counts them all.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const reports = join(root, "reports");
rmSync(reports, { recursive: true, force: true });
mkdirSync(reports);

const python = join(root, "images/kernel/.venv/bin");
const npx = (...args) => ["npx", "--no-install", ...args];
const onlyFast = process.argv.includes("--fast");
const vitest = (project, { name = project, files = [] } = {}) => ({
  name,
  command: npx(
    "vitest",
    "run",
    "--project",
    project,
    ...files,
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${reports}/${name}.json`,
  ),
  count: () => countVitest(`${reports}/${name}.json`),
});
/** The end-to-end tests hold for every engine; whole suites are `make matrix`'s. */
const e2eOn = (engine, ...files) => ({
  ...vitest("e2e", { name: `e2e on ${engine}`, files: files.map((file) => `test/e2e/${file}.test.ts`) }),
  env: { ...process.env, IPYBOX_SANDBOX: engine },
});

const steps = [
  { name: "format", command: npx("prettier", "--check", ".") },
  { name: "lint", command: npx("eslint", ".") },
  { name: "types", command: npx("tsc", "--noEmit") },
  vitest("unit"),
  { name: "python lint", command: [`${python}/ruff`, "check", "images"] },
  { name: "python format", command: [`${python}/ruff`, "format", "--check", "images"] },
  {
    name: "python",
    command: [`${python}/python`, "-m", "pytest", "-q", "images/kernel/tests", `--junitxml=${reports}/python.xml`],
    count: () => countJUnit(`${reports}/python.xml`),
    slow: true,
  },
  ...["contract", "integration", "attempts", "e2e"].map((project) => ({ ...vitest(project), slow: true })),
  ...["none", "srt"].map((engine) => ({ ...e2eOn(engine, "cells", "registration", "stopping"), slow: true })),
  { name: "nothing left behind", command: ["bash", "test/leftovers.sh", "check"], slow: true },
];

const total = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
if (!onlyFast) spawnSync("bash", ["test/leftovers.sh", "remember"], { cwd: root, stdio: "inherit" });
for (const step of steps.filter((candidate) => !(onlyFast && candidate.slow))) {
  console.log(`\n== ${step.name}`);
  const startedAt = Date.now();
  const [program, ...args] = step.command;
  const { status } = spawnSync(program, args, { cwd: root, stdio: "inherit", env: step.env ?? process.env });
  const counts = countOf(step, status === 0);
  for (const key of Object.keys(total)) total[key] += counts[key];
  if (status !== 0 || counts.failed > 0) failures.push(step.name);
  console.log(
    `== ${step.name}: ${status === 0 ? "ok" : "FAILED"} in ${((Date.now() - startedAt) / 1000).toFixed(1)} s`,
  );
}
if (failures.length > 0) console.log(`\nfailed: ${failures.join(", ")}`);
// A test that is skipped claims what it does not show.
const { passed, failed, skipped } = total;
console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exitCode = failures.length > 0 || failed > 0 ? 1 : 0;

/** A checker without a report of its own counts as one. A runner that died before its report counts as one failure. */
function countOf(step, succeeded) {
  const one = { passed: succeeded ? 1 : 0, failed: succeeded ? 0 : 1, skipped: 0 };
  if (step.count === undefined) return one;
  try {
    const counts = step.count();
    return succeeded || counts.failed > 0 ? counts : { ...counts, failed: 1 };
  } catch {
    return { ...one, passed: 0, failed: 1 };
  }
}

function countVitest(path) {
  const report = JSON.parse(readFileSync(path, "utf8"));
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

function countJUnit(path) {
  const [, attributes] = /<testsuite ([^>]*)>/.exec(readFileSync(path, "utf8"));
  const number = (name) => Number(new RegExp(`${name}="(\\d+)"`).exec(attributes)?.[1] ?? 0);
  const failed = number("failures") + number("errors");
  return { passed: number("tests") - failed - number("skipped"), failed, skipped: number("skipped") };
}
