import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ReleaseStack } from "../../common/lifecycle.ts";
import type { Link } from "./link.ts";
import { listenOn } from "./socket.ts";

/** For sandboxes that share this host's file system: sockets in the run directory. */
export const socketLink: Link = {
  name: "socket",
  open: async ({ runDirectory, owner: { uid, gid } }, services) => {
    await using stack = new ReleaseStack();
    const emptyFile = join(runDirectory, "empty");
    await writeFile(emptyFile, "", { mode: 0o444 });
    for (const name of ["gateway", "tools", "egress"] as const) {
      const onConnection = services[name];
      if (onConnection === undefined) continue;
      stack.use(await listenOn({ directory: runDirectory, name: `${name}.sock`, uid, gid, onConnection }));
    }
    const open = stack.move();
    return {
      crossing: { type: "socket", runDirectory, emptyFile },
      [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
    };
  },
};
