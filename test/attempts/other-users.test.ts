import { execFileSync } from "node:child_process";
import { chmodSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { upstream } from "../helpers/client.ts";
import { SessionUnderAttack } from "./session-under-attack.ts";

let attacked: SessionUnderAttack;
let server: number;
/** What another user of the machine may find out: where things are. */
let places: { readonly state: string; readonly run: string };
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({
    args: ["--allow-domain", "example.org"],
    prepare: (_workspace, directory) => {
      // Nothing but our own modes is in the way.
      chmodSync(directory.path, 0o755);
      chmodSync(directory.make("state"), 0o755);
    },
  });
  await attacked.client.register("memory", upstream("memory"));
  server = attacked.client.transport.pid ?? 0;
  const { Mounts } = await (await attacked.container()).inspect();
  const run = Mounts.find(({ Destination }) => Destination === "/run/ipybox")?.Source ?? "";
  places = { state: join(attacked.directory.path, "state/ipybox"), run };
});
afterAll(() => attacked[Symbol.asyncDispose]());

const connect = (name: string) => () =>
  `s = socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(join(places.run, name))})`;
const ATTEMPTS = [
  ["list ipybox's state", () => `os.listdir(${JSON.stringify(places.state)})`],
  ["list the sockets of sessions", () => `os.listdir(${JSON.stringify(join(places.run, ".."))})`],
  ["ask the bridge", connect("tools.sock")],
  ["become a sandbox's init", connect("gateway.sock")],
  ["use the way out", connect("egress.sock")],
  ["read the server's environment", () => `open("/proc/${server}/environ").read()`],
  ["read the server's memory", () => `open("/proc/${server}/mem", "rb")`],
  ["see what the server has open", () => `os.listdir("/proc/${server}/fd")`],
  ["signal the server", () => `os.kill(${server}, 0)`],
] as const;

// To become another user takes root.
describe.runIf(process.getuid?.() === 0)("another user of the machine can't", () => {
  const NOBODY = 65_534;
  const tries = (code: string, uid: number): string => {
    const script = `import os, socket\ntry:\n    ${code}\n    print("succeeded")\nexcept PermissionError:\n    print("refused")`;
    return execFileSync("python3", ["-c", script], { cwd: "/", uid, gid: uid, encoding: "utf8" }).trim();
  };
  test.for(ATTEMPTS)("%s, which the server's own user can", ([, code]) => {
    expect([tries(code(), NOBODY), tries(code(), 0)]).toEqual(["refused", "succeeded"]);
  });
});

test("a web page finds no port of the server's, with egress and an MCP server too", () => {
  const listening = ["tcp", "tcp6", "udp", "udp6"].flatMap((name) =>
    readFileSync(`/proc/${server}/net/${name}`, "utf8")
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => name.startsWith("udp") || fields[3] === "0A")
      .map((fields) => `socket:[${fields[9] ?? ""}]`),
  );
  expect(listening.length).toBeGreaterThan(0); // some other program's: the table is read
  const open = readdirSync(`/proc/${server}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${server}/fd/${fd}`);
    } catch {
      return ""; // closed just now
    }
  });
  expect(open.some((target) => target.startsWith("socket:"))).toBe(true);
  expect(open.filter((target) => listening.includes(target))).toEqual([]);
});
