import { setTimeout as delay } from "node:timers/promises";
import { createDockerClient } from "./client.ts";
import { removeOrphans } from "./inventory.ts";

// A program of its own, started by the watchdog of a server that was killed (sweep-after-death.ts). The server's last
// request may still be under way in the engine, so it looks more than once.
const client = createDockerClient(process.env);
for (const waitMs of [0, 500, 1000, 2000]) {
  await delay(waitMs);
  await removeOrphans(client).catch(() => undefined); // the next start's sweep is left
}
process.exit(0); // kept connections to the engine would hold it
