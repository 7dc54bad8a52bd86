import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { metaOf } from "../helpers/client.ts";
import { SessionUnderAttack } from "./session-under-attack.ts";

let attacked: SessionUnderAttack;
beforeAll(async () => {
  attacked = await SessionUnderAttack.open({ args: ["--link", "exec"] });
  await attacked.client.text("kept = 7");
});
afterAll(() => attacked[Symbol.asyncDispose]());

/** Host and sandbox are still joined, and it is the same sandbox. */
const stillThere = async () => expect(await attacked.client.text("kept")).toBe("7");

describe("over the exec link a cell can't", () => {
  test.for(["gateway", "tools", "egress"])("take the place of the service %s", async (service) => {
    expect(await attacked.tries(`socket.socket(socket.AF_UNIX).bind("\\0ipybox/${service}")`)).toMatch(
      /^refused: OSError.*in use/,
    );
  });

  test.for([
    ["become init, and be told the token", `{"role":"init","version":1}`],
    ["become a gateway without the token", `{"role":"gateway","token":"00000000000000000000000000000000"}`],
  ] as const)("%s", async ([, line]) => {
    const asks = `with socket.socket(socket.AF_UNIX) as stream:
    stream.settimeout(5)
    stream.connect("\\0ipybox/gateway")
    stream.sendall(b'${line}\\n')
    answer = stream.recv(4096)
answer or fail(errno.ECONNRESET)`;
    expect(await attacked.tries(asks)).toMatch(/^refused: (ConnectionResetError|BrokenPipeError)/);
    await stillThere();
  });

  test("reach the carrier, of which nothing but init has a descriptor", async () => {
    expect(await attacked.tries(`open("/proc/1/fd/3", "wb")`)).toMatch(/^refused: PermissionError/);
    expect(await attacked.tries(`os.listdir("/proc/1/fd")`)).toMatch(/^refused: PermissionError/);
    const forged = String.raw`b"\x02\0\0\0\x01\xff\xff\xff\xff"`;
    await attacked.tries(`[os.write(descriptor, ${forged}) for descriptor in (1, 2)]`);
    await stillThere();
  });

  test("end or stop the relay", async () => {
    for (const name of ["SIGSTOP", "SIGKILL", "SIGTERM"]) {
      expect(await attacked.tries(`os.kill(1, signal.${name})`)).toBe("succeeded: None");
    }
    await stillThere();
  });

  test("keep others from being served by a flood of connections and of bytes", async () => {
    const flood = `
import socket
held = []
for service in ("gateway", "tools"):
    for _ in range(500):
        stream = socket.socket(socket.AF_UNIX)
        stream.setblocking(False)
        held.append(stream)
        try:
            stream.connect("\\0ipybox/" + service)
            stream.send(b"x" * 200_000)
        except OSError: pass
`;
    await attacked.client.text(flood);
    await stillThere();
    await attacked.client.text("for stream in held: stream.close()");
    expect(metaOf(await attacked.client.cell("kept"))).toMatchObject({ status: "ok", stateKept: true });
  });
});
