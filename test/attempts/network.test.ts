import { once } from "node:events";
import { createServer, type AddressInfo, type Server } from "node:net";

import type Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { docker, SessionUnderAttack, withoutWalls } from "./session-under-attack.ts";

let attacked: SessionUnderAttack;
/** What a program of the user's might offer on the host's loopback, and on its abstract unix sockets. */
const services: Server[] = [];
const abstract = `\0service-of-the-test-${process.pid}`;
let port = 0;
beforeAll(async () => {
  for (const address of [{ host: "127.0.0.1", port: 0 }, { path: abstract }]) {
    const server = createServer((stream) => stream.on("error", () => undefined).end("hello"));
    services.push(server.listen(address));
    await once(server, "listening");
  }
  port = (services[0]?.address() as AddressInfo).port; // a TCP server has one
  attacked = await SessionUnderAttack.open();
});
afterAll(async () => {
  for (const server of services) server.close();
  await attacked[Symbol.asyncDispose]();
});

const onLoopback = () => `connected(("127.0.0.1", ${port}))`;
const METADATA = "169.254.169.254";
/** A web server in a container; with the right to, it takes the address of the cloud's metadata in its network. */
async function startService(options: Docker.ContainerCreateOptions) {
  const port = 8000;
  const code = `import fcntl, http.server, socket, struct
address = struct.pack("16sH2s4s8x", b"lo:1", socket.AF_INET, bytes(2), socket.inet_aton("${METADATA}"))
try: fcntl.ioctl(socket.socket(), 0x8916, address)  # SIOCSIFADDR
except PermissionError: pass
server = http.server.HTTPServer(("", ${port}), http.server.BaseHTTPRequestHandler)
print("listening", flush=True)
server.serve_forever()`;
  const container = await docker.createContainer({
    Image: attacked.image,
    Entrypoint: ["/opt/ipybox/venv/bin/python", "-c", code],
    User: "0:0",
    ...options,
  });
  const service = { id: container.id, port, [Symbol.asyncDispose]: () => container.remove({ force: true }) };
  try {
    const output = await container.attach({ stream: true, stdout: true, stderr: true });
    await container.start();
    await once(output, "data");
    return service;
  } catch (error) {
    await service[Symbol.asyncDispose]();
    throw error;
  }
}
/** Older versions of Node.js fill the name with zeros. */
const onAbstract = `name = "\\0service-of-the-test-${process.pid}"
try:
    answer = connected(name, socket.AF_UNIX)
except OSError:
    answer = connected(name.ljust(108, "\\0"), socket.AF_UNIX)
answer`;

describe("no network: a cell can't reach", () => {
  test.for([
    ["the internet over IPv4", `connected(("1.1.1.1", 443))`],
    ["the internet over IPv6", `connected(("2606:4700:4700::1111", 443), socket.AF_INET6)`],
    ["the engine's bridge", `connected(("172.17.0.1", 22))`],
    ["the cloud's metadata over IPv4", `connected(("${METADATA}", 80))`],
    ["the cloud's metadata over IPv6", `connected(("fd00:ec2::254", 80), socket.AF_INET6)`],
    ["a name server", `socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"?", ("8.8.8.8", 53))`],
    [
      "neighbours by broadcast",
      `s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.sendto(b"?", ("255.255.255.255", 9))`,
    ],
    ["neighbours by multicast", `socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"?", ("224.0.0.251", 5353))`],
    ["a name in DNS", `socket.getaddrinfo("example.org", 443)`],
    ["the host by the engine's name for it", `connected(("host.docker.internal", 80))`],
    ["the engine", `connected("/var/run/docker.sock", socket.AF_UNIX)`],
  ] as const)("%s", async ([, code]) => {
    expect(await attacked.tries(code)).toMatch(
      /^refused: (OSError: \[Errno (101|99|97|113)\]|gaierror|FileNotFoundError|ConnectionRefusedError|TimeoutError)/,
    );
  });

  test("a name that the engine's own DNS knows, nor who has it, which a container in that network does", async () => {
    const network = await docker.createNetwork({ Name: `test-ipybox-${process.pid}`, Internal: true });
    try {
      await using service = await startService({
        HostConfig: { NetworkMode: network.id },
        NetworkingConfig: { EndpointsConfig: { [network.id]: { Aliases: ["service.test"] } } },
      });
      const code = `connected(("service.test", ${service.port}))`;
      expect(await attacked.tries(code)).toMatch(/^refused: gaierror/);
      expect(await withoutWalls(attacked.image, code, { NetworkMode: network.id })).toBe("succeeded: 'connected'");
    } finally {
      await network.remove();
    }
  });

  test("the address of the cloud's metadata where somebody has it, which a container in that network does", async () => {
    await using service = await startService({ HostConfig: { NetworkMode: "none", CapAdd: ["NET_ADMIN"] } });
    const code = `connected(("${METADATA}", ${service.port}))`;
    expect(await attacked.tries(code)).toMatch(/^refused: OSError: \[Errno 101\]/);
    const network = { NetworkMode: `container:${service.id}` };
    expect(await withoutWalls(attacked.image, code, network)).toBe("succeeded: 'connected'");
  });

  test("a service on the host's loopback, which a container in the host's network does", async () => {
    expect(await attacked.tries(onLoopback())).toMatch(/^refused: ConnectionRefusedError/);
    expect(await withoutWalls(attacked.image, onLoopback(), { NetworkMode: "host" })).toBe("succeeded: 'connected'");
  });

  test("an abstract unix socket of the host, which a container in the host's network does", async () => {
    expect(await attacked.tries(onAbstract)).toMatch(/^refused: ConnectionRefusedError/);
    expect(await withoutWalls(attacked.image, onAbstract, { NetworkMode: "host" })).toBe("succeeded: 'connected'");
  });

  test("anything by a new interface or address", async () => {
    expect(await attacked.tries(`open("/proc/sys/net/ipv4/ip_forward", "w")`)).toMatch(/Read-only|Permission/);
    const addInterface = `import struct
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    name = struct.pack("HH", 8, 3) + b"evil"  # IFLA_IFNAME
    kind = struct.pack("HH", 9, 1) + b"dummy\\0\\0\\0"  # IFLA_INFO_KIND
    info = struct.pack("HH", 4 + len(kind), 18) + kind  # IFLA_LINKINFO
    body = bytes(16) + name + info
    netlink.send(struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)  # RTM_NEWLINK, create
    code = struct.unpack_from("i", netlink.recv(4096), 16)[0]
fail(-code) if code else "made"`;
    expect(await attacked.tries(addInterface)).toMatch(/^refused: PermissionError/);
  });
});

describe("socket families: a cell gets no socket", () => {
  test.for([
    ["for packets", "socket.AF_PACKET, socket.SOCK_RAW"],
    ["for packets by its old name", "socket.AF_INET, 10"],
    ["to a hypervisor (vsock), which no network namespace confines", "40, socket.SOCK_STREAM"],
    ["for the kernel's cryptography (alg)", "38, socket.SOCK_SEQPACKET"],
    ["for Bluetooth", "31, socket.SOCK_RAW, 1"],
    ["for CAN", "29, socket.SOCK_RAW, 1"],
    ["for XDP", "44, socket.SOCK_RAW"],
    ["for TIPC", "30, socket.SOCK_STREAM"],
    ["for RDS", "21, socket.SOCK_SEQPACKET"],
    ["for IPsec keys", "15, socket.SOCK_RAW, 2"],
    ["for SMC", "43, socket.SOCK_STREAM"],
    ["for MCTP", "45, socket.SOCK_DGRAM"],
  ] as const)("%s", async ([, parts]) => {
    // EAFNOSUPPORT
    expect(await attacked.tries(`socket.socket(${parts})`)).toMatch(/^refused: OSError: \[Errno 97\]/);
  });

  test("of ICMP or raw IP, though the family is allowed", async () => {
    for (const family of ["socket.AF_INET", "socket.AF_INET6"]) {
      expect(await attacked.tries(`socket.socket(${family}, socket.SOCK_RAW, 1)`)).toMatch(/^refused: PermissionError/);
    }
  });

  test("of those families, one of which the same image gives without our filter", async () => {
    const opened = `[family for family in range(3, 46) if family not in (10, 16) and can_open(family)]`;
    const code = `def can_open(family):
    for kind in (1, 2, 3, 5):
        try:
            socket.socket(family, kind).close()
            return True
        except OSError:
            pass
${opened}`;
    expect(await attacked.tries(code)).toBe("succeeded: []");
    expect(await withoutWalls(attacked.image, code)).toMatch(/^succeeded: \[\d+/);
  });

  test("but the allowed ones work", async () => {
    const code = `[socket.socket(family).close() for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)]
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
with socket.create_server(("127.0.0.1", 0)) as server:
    answer = connected(server.getsockname())
answer`;
    expect(await attacked.tries(code)).toBe("succeeded: 'connected'");
  });
});
