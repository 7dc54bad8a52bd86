import { chmodSync, copyFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { BrokerHarness, call, register } from "./broker-harness.ts";

const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
/** Only root can run processes as another user. */
const user = own.uid === 0 ? { uid: 60_514, gid: 60_514 } : own;

/** A broker, and parameters of a server that the user can read. */
async function openAs(harness: BrokerHarness) {
  chmodSync(harness.root, 0o711);
  const script = join(harness.root, "own-status.sh");
  copyFileSync(join(import.meta.dirname, "servers/own-status.sh"), script);
  const directory = join(harness.root, "working-directories");
  const broker = await harness.open({ processUser: { ...user, name: "status", home: directory, directory } });
  return { broker, directory, params: { command: script, args: ["--verbose"] } };
}

describe("stdio upstreams with a user of their own", () => {
  test("run as that user, without groups and capabilities, in a directory of theirs", async () => {
    await using harness = new BrokerHarness();
    const { broker, directory, params } = await openAs(harness);
    await register(broker, "status", params);
    const { content } = await call(broker, "status", "status");
    const [{ text: status }] = content as [{ text: string }];
    expect(status).toContain(`;Uid: ${user.uid} ${user.uid} ${user.uid} ${user.uid};`);
    expect(status).toMatch(/;CapEff: 0{16};/);
    if (own.uid === 0) expect(status).toMatch(/;Groups: +;/);
    expect(statSync(join(directory, "status"))).toMatchObject(user);
  });

  test("are not started with a secret in their command line", async () => {
    await using harness = new BrokerHarness();
    harness.variables.set("SEARCH_API_KEY", { value: "0123456789abcdef", fromEnvFile: false });
    const { broker, params } = await openAs(harness);
    const refused = register(broker, "status", { ...params, args: [...params.args, "--key=${SEARCH_API_KEY}"] });
    await expect(refused).rejects.toMatchObject({ code: "invalid-server-params" });
    await expect(refused).rejects.toThrow(/can read the command line of this server: --key=\$\{SEARCH_API_KEY\}$/);
    await register(broker, "status", { ...params, env: { KEY: "${SEARCH_API_KEY}" } });
  });
});
