import { join } from "node:path";

import { Registry } from "../broker/registry.ts";
import { IpyboxError } from "../common/errors.ts";
import { createLogger } from "../common/logger.ts";
import { stateDirectory } from "../config/directories.ts";
import { openConfiguredWorkspace } from "../ground.ts";
import type { Invocation } from "./invocation.ts";

/** Lists the registered MCP servers of the workspace, as they were given; `--remove NAME` forgets one. */
export async function servers({ config, own }: Invocation): Promise<number> {
  const workspace = await openConfiguredWorkspace(config);
  const logger = createLogger({ level: config.logLevel, format: config.logFormat });
  const registry = new Registry(join(stateDirectory(process.env), "workspaces", workspace.key), logger);
  const name = own["remove"];
  if (typeof name === "string") {
    if (!(await registry.remove(name))) {
      throw new IpyboxError(
        "unknown-server",
        `no MCP server called ${JSON.stringify(name)} is registered in ${workspace.path}`,
        {
          hint: "`ipybox servers` lists those that are.",
        },
      );
    }
    process.stdout.write(`removed ${name}; its modules in mcptools/${name}/ are kept\n`);
    return 0;
  }
  const all = await registry.all();
  const listing = Object.fromEntries(
    [...all].map(([server, { params, tools }]) => [server, { ...params, tools: tools.map((tool) => tool.module) }]),
  );
  process.stdout.write(`${JSON.stringify(listing, null, 2)}\n`);
  return 0;
}
