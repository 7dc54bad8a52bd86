import { setTimeout as delay } from "node:timers/promises";
import { removeOrphans } from "./inventory.ts";
import { SandboxRecords } from "./sandbox-records.ts";
import { removeScratches } from "./scratches.ts";

// A program of its own, started by the watchdog of a server that was killed (sweep-after-death.ts). Sandboxes end by
// themselves when their lifeline does, and init takes their processes along: it is given the time to.
const [stateDir = "", dataDir = ""] = process.argv.slice(2);
await delay(2000);
// The next start's sweep is left.
await removeOrphans(new SandboxRecords(stateDir)).catch(() => undefined);
await removeScratches(dataDir, { all: false }).catch(() => undefined);
