import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";

/** This machine behind ssh, for who has the key. */
export interface SshServer extends Disposable {
  /** What a client needs to reach the engine: its `PATH` begins with an `ssh` that has key and known hosts. */
  readonly env: Readonly<Record<"DOCKER_HOST" | "PATH", string>>;
  /** How many are open. */
  connections(): number;
  /** The same for a client whose key is another. */
  readonly stranger: Readonly<Record<"DOCKER_HOST" | "PATH", string>>;
}

/** Serves ssh on a loopback port; keys and configuration are made in `directory`. Needs OpenSSH, and root to log in as itself. */
export async function serveSsh(directory: string): Promise<SshServer> {
  const host = makeKey(join(directory, "host"));
  const user = makeKey(join(directory, "user"));
  const authorized = join(directory, "authorized_keys");
  writeFileSync(authorized, readFileSync(`${user}.pub`), { mode: 0o600 });
  const config = join(directory, "sshd_config");
  const settings = [
    ...[`HostKey ${host}`, `AuthorizedKeysFile ${authorized}`, "StrictModes no", "UsePAM no"],
    ...["PasswordAuthentication no", "PermitRootLogin prohibit-password"],
  ];
  writeFileSync(config, `${settings.join("\n")}\n`);
  mkdirSync("/run/sshd", { recursive: true }); // its own, which Debian makes when the service starts

  const sockets = new Set<Socket>();
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    const sshd = spawn("/usr/sbin/sshd", ["-i", "-f", config], { stdio: [socket, socket, "ignore"] });
    sshd.once("close", () => sockets.delete(socket.destroy()));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // it listens on a port
  const clientOf = (name: string, key: string) => {
    const known = join(directory, `known-${name}`);
    writeFileSync(known, `[127.0.0.1]:${port} ${readFileSync(`${host}.pub`, "utf8")}`);
    const options = ["-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", `UserKnownHostsFile=${known}`];
    const program = join(directory, name, "ssh");
    mkdirSync(join(directory, name));
    writeFileSync(program, `#!/bin/sh\nexec /usr/bin/ssh ${options.join(" ")} "$@"\n`);
    chmodSync(program, 0o755);
    return {
      DOCKER_HOST: `ssh://${userInfo().username}@127.0.0.1:${port}`,
      PATH: `${join(directory, name)}:${process.env["PATH"] ?? ""}`,
    };
  };
  return {
    env: clientOf("client", user),
    stranger: clientOf("stranger", makeKey(join(directory, "other"))),
    connections: () => sockets.size,
    [Symbol.dispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function makeKey(path: string): string {
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", path]);
  return path;
}
