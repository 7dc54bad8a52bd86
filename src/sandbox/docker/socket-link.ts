import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ReleaseStack } from "../../common/lifecycle.ts";
import { removeRunDirectory, type RunDirectoryOwner, type RunRoot } from "../link/run-directory.ts";
import type { Services } from "../link/services.ts";
import { listenOn } from "../link/socket.ts";
import type { Link, OpenLink } from "./link.ts";

/** For engines that share this host's file system: sockets in a directory that is mounted read-only. */
export class SocketLink implements Link {
  readonly name = "socket";
  readonly #runRoot: RunRoot;
  readonly #owner: RunDirectoryOwner;

  constructor(runRoot: RunRoot, owner: RunDirectoryOwner) {
    this.#runRoot = runRoot;
    this.#owner = owner;
  }

  async open(id: string, services: Services): Promise<OpenLink> {
    await using stack = new ReleaseStack();
    const runDirectory = await this.#runRoot.make(id, this.#owner);
    stack.defer(() => removeRunDirectory(runDirectory));
    const emptyFile = join(runDirectory, "empty");
    await writeFile(emptyFile, "", { mode: 0o444 });
    for (const name of ["gateway", "tools", "egress"] as const) {
      const onConnection = services[name];
      if (onConnection === undefined) continue;
      const { uid, gid } = this.#owner;
      stack.use(await listenOn({ directory: runDirectory, name: `${name}.sock`, uid, gid, onConnection }));
    }
    const open = stack.move();
    return {
      crossing: { type: "socket", runDirectory, emptyFile },
      [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
    };
  }
}
