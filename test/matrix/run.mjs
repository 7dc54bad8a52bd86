// Runs the engine contract and end-to-end tests on every engine that this machine can have, each with data of its own,
// and prints a row for each: `node test/matrix/run.mjs [NAME…]` runs those whose names contain one of the words. Needs root.
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { startGVisor, startPodman, startRootlessDocker, startRootlessPodman } from "./engines.mjs";
import { Place, ROOT, Unavailable } from "./place.mjs";

const CONTRACT = ["contract/engine/docker-socket", "contract/engine/docker-exec"];
const SESSIONS = ["cells", "environment", "mcp-servers", "packages", "registration", "stopping"].map(
  (name) => `e2e/${name}`,
);
/** What holds of containers: masks, and what the commands that look after sandboxes say. */
const CONTAINERS = ["shields", "lifecycle"].map((name) => `e2e/${name}`);
/** Ten thousand cells and hundreds of megabytes: for engines and links that pass output on in another way. */
const OUTPUT = "e2e/output";
const ROWS = [
  {
    name: "docker, socket link",
    tests: [CONTRACT[0], ...SESSIONS, ...CONTAINERS, OUTPUT],
    env: { IPYBOX_LINK: "socket" },
  },
  { name: "docker, exec link", tests: [CONTRACT[1], ...SESSIONS, ...CONTAINERS, OUTPUT], env: { IPYBOX_LINK: "exec" } },
  { name: "podman", tests: [...CONTRACT, ...SESSIONS, ...CONTAINERS], start: startPodman },
  { name: "podman, rootless", tests: [...CONTRACT, ...SESSIONS, ...CONTAINERS], start: startRootlessPodman },
  { name: "docker, rootless", tests: [...CONTRACT, ...SESSIONS, ...CONTAINERS], start: startRootlessDocker },
  { name: "gVisor", tests: [...CONTRACT, ...SESSIONS, ...CONTAINERS], start: startGVisor },
  { name: "engine on TCP, with TLS", tests: ["matrix/tcp-tls"] },
  { name: "engine behind ssh", tests: ["matrix/ssh"] },
  { name: "examples for CI: mounted socket, nested daemon", tests: ["matrix/ci-examples"] },
  { name: "all-in-one image, and beside it with the engine's socket", tests: ["e2e/all-in-one"] },
  { name: "sandbox-runtime", tests: ["contract/engine/srt", ...SESSIONS, OUTPUT], env: { IPYBOX_SANDBOX: "srt" } },
  { name: "no container", tests: ["contract/engine/none", ...SESSIONS, OUTPUT], env: { IPYBOX_SANDBOX: "none" } },
];

const words = process.argv.slice(2);
const results = [];
for (const row of ROWS.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))) {
  console.log(`\n== ${row.name}`);
  results.push({ name: row.name, ...(await runRow(row)) });
}
const width = Math.max(...results.map(({ name }) => name.length));
console.log();
for (const { name, verdict } of results) console.log(`${name.padEnd(width)}  ${verdict}`);
process.exitCode = results.length === 0 || results.some(({ failed }) => failed) ? 1 : 0;

async function runRow({ tests, env = {}, start }) {
  const files = tests.map((name) => `test/${name}.test.ts`);
  const missing = files.filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) return { failed: true, verdict: `FAILED: there is no ${missing.join(", ")}` };
  const place = new Place();
  try {
    const engine = start && { ...(await start(place)), TEST_WITHOUT_BUILDS: "1" };
    return await runTests(place, files, { ...env, ...engine, TMPDIR: place.makeTemporaryDirectory() });
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return { failed: false, verdict: `not here: ${error.message}` };
  } finally {
    await place.remove();
  }
}

async function runTests(place, files, env) {
  const report = place.at("report.json");
  const projects = [...new Set(files.map((path) => path.split("/")[1]))].flatMap((name) => ["--project", name]);
  const reporting = ["--no-file-parallelism", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const [program, ...args] = place.command(
    env,
    "npx",
    "--no-install",
    "vitest",
    "run",
    ...projects,
    ...files,
    ...reporting,
  );
  const options = { cwd: place.copyCheckout(), stdio: "inherit", env: { ...process.env, ...env } };
  await once(place.spawn(program, args, options), "exit");
  if (!existsSync(report)) return { failed: true, verdict: "FAILED before the first test" };
  const { numPassedTests: passed, numFailedTests: failed, success } = JSON.parse(readFileSync(report, "utf8"));
  return {
    failed: !success,
    verdict: `${passed} passed, ${failed} failed${success || failed > 0 ? "" : ", FAILED outside of tests"}`,
  };
}
