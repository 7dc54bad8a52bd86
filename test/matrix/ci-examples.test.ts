import { chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect } from "vitest";

import { makeCertificate } from "../helpers/certificate.ts";
import { TestDirectory } from "../helpers/client.ts";
import { test as base } from "../helpers/session.ts";
import { buildCiImage, CiContainer, serveRegistry } from "./ci-container.ts";

const EXAMPLES = join(import.meta.dirname, "../../docs/examples");
const SOCKET = "/var/run/docker.sock";
/** Of the user that owns a repository on a runner. */
const RUNNER = 1001;
const REPORT = `import os
open("report.txt", "w").write("made by a cell")
print("stage", os.environ.get("STAGE"), "as", os.getuid())`;
/** What a daemon needs inside of a container: less than everything, which not every machine has to give. */
const NESTED = [
  ...["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_MODULE"].flatMap((name) => ["--cap-add", name]),
  ...["seccomp=unconfined", "systempaths=unconfined", "apparmor=unconfined"].flatMap((name) => [
    "--security-opt",
    name,
  ]),
  ...["--device-cgroup-rule", "a *:* rwm", "-v", "/sys/fs/cgroup:/sys/fs/cgroup", "-v", "/var/lib/docker"],
];

const test = base
  .extend("baseImage", { scope: "file", auto: true }, () => buildCiImage())
  .extend("registry", { scope: "file" }, async ({ directory }, { onCleanup }) => {
    const registry = await serveRegistry(directory.make("registry"));
    onCleanup(() => registry[Symbol.dispose]());
    return registry;
  });

describe("the examples for a CI, their shell steps verbatim", { timeout: 900_000 }, () => {
  test("GitHub Actions, on the runner", async ({ registry, directory }) => {
    const repository = makeRepository(directory, "runner");
    // The runner shares its files with the engine, temporary ones included.
    const shared = ["-v", `${directory.path}:${directory.path}`, "-e", `TMPDIR=${directory.make("tmp")}`];
    await using job = await CiContainer.start([...shared, ...registry.options, "-v", `${SOCKET}:${SOCKET}`]);
    const output = await runSteps(job, "on-the-runner", repository);
    expect(output).toContain(`stage ci as ${RUNNER}`);
    expectReport(repository);
  });

  test("GitHub Actions, in a container that has the engine's socket", async ({ registry, directory }) => {
    const repository = makeRepository(directory, "container");
    const mounts = ["-v", `${repository}:/__w/repo/repo`, "-v", `${SOCKET}:${SOCKET}`];
    await using job = await CiContainer.start([...mounts, ...registry.options]);
    expect(await runSteps(job, "in-a-container", "/__w/repo/repo")).toContain(`stage None as ${RUNNER}`);
    expectReport(repository);
  });

  test("GitLab CI, with a nested daemon over TCP and TLS", async ({ baseImage, registry, directory }) => {
    const builds = directory.make("builds");
    const repository = makeRepository(directory, "builds/group/project");
    const server = makeCertificate(directory.make("certificates/server"), "docker");
    const client = makeCertificate(directory.make("certificates/client"));
    writeFileSync(directory.make("certificates/client") + "/ca.pem", server.cert);
    writeFileSync(directory.make("certificates/server") + "/ca.pem", client.cert);
    const tls = ["ca", "cert", "key"].map(
      (part) => `--tls${part === "ca" ? "cacert" : part}=/certs/server/${part}.pem`,
    );
    const shared = ["-v", `${builds}:/builds`, "-v", `${directory.make("certificates")}:/certs`];
    const hosts = ["--host", "tcp://0.0.0.0:2376", "--host", `unix://${SOCKET}`];
    await using service = await CiContainer.start([...shared, ...NESTED], ["dockerd", "--tlsverify", ...tls, ...hosts]);
    await service.said("API listen on [::]:2376");
    await service.load(baseImage); // in the place of a registry

    const job = readFileSync(join(EXAMPLES, "gitlab-ci.yml"), "utf8");
    const variables = [...job.matchAll(/^ {4}(DOCKER_\w+): "?([^"\s]+)"?/gm)].flatMap(([, name, value]) => [
      "-e",
      `${name}=${value}`,
    ]);
    const script = [...(job.split("  script:\n")[1] ?? "").matchAll(/^ {4}- (.+)$/gm)]
      .map(([, line]) => line)
      .join("\n");
    const options = [...shared, ...registry.options, ...variables, "--add-host", `docker:${await service.address()}`];
    await using container = await CiContainer.start(options);
    const output = await container.shell(script, ["-w", "/builds/group/project"]);
    expect(output).toContain("link: exec");
    expect(output).toContain(`as ${RUNNER}`);
    expectReport(join(repository, "scripts"));
  });
});

function makeRepository(directory: TestDirectory, name: string): string {
  const repository = directory.make(name);
  const scripts = join(repository, "scripts");
  mkdirSync(scripts);
  writeFileSync(join(scripts, "report.py"), REPORT);
  for (const path of [repository, scripts]) chownSync(path, RUNNER, RUNNER);
  return repository;
}

async function runSteps(container: CiContainer, job: string, directory: string): Promise<string> {
  const workflow = readFileSync(join(EXAMPLES, "github-actions.yml"), "utf8");
  const [, rest = ""] = workflow.split(`\n  ${job}:\n`);
  const [steps = ""] = rest.split(/\n {2}\S/);
  let output = "";
  for (const [, command = "", settings = ""] of steps.matchAll(/^ {6}- run: (.+)(?:\n {8}env:((?:\n {10}.+)+))?/gm)) {
    const variables = [...settings.matchAll(/(\w+): (\S+)/g)].flatMap(([, name, value]) => ["-e", `${name}=${value}`]);
    output += await container.shell(command, ["-w", directory, ...variables]);
  }
  return output;
}

function expectReport(directory: string): void {
  const path = join(directory, "report.txt");
  expect(readFileSync(path, "utf8")).toBe("made by a cell");
  expect(statSync(path)).toMatchObject({ uid: RUNNER, gid: RUNNER });
}
