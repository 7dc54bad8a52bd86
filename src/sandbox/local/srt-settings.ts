import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import type { View } from "./confinement.ts";

const paths = z.array(z.string()).default([]);

/** What we decide about; the rest of the file is sandbox-runtime's business, which checks it as well. */
const settingsSchema = z.looseObject({
  network: z
    .looseObject({
      allowedDomains: z.array(z.string()).default([]),
      deniedDomains: z.array(z.string()).max(0, "is not supported").default([]),
      allowAllUnixSockets: z
        .literal(false, "is refused, since it would open the sockets of engines and agents")
        .optional(),
    })
    .default({ allowedDomains: [], deniedDomains: [] }),
  filesystem: z
    .looseObject({ denyRead: paths, allowRead: paths, allowWrite: paths.optional(), denyWrite: paths })
    .default({ denyRead: [], allowRead: [], denyWrite: [] }),
});

/** Settings of sandbox-runtime as a file of the user's gives them; `{}` is the default of everything. */
export type SrtSettings = z.output<typeof settingsSchema>;

/** Throws a ZodError for what is of another shape, or would take a wall away. */
export function parseSettings(document: unknown): SrtSettings {
  return settingsSchema.parse(document);
}

/**
 * The settings of one sandbox: the user's, and on top of them what a sandbox needs and what is never to be seen. The
 * network stays closed: domains are reached through a proxy of ours, as with every engine.
 */
export function settingsFor(user: SrtSettings, view: View, workspace: string): SrtSettings {
  const { denyRead, allowRead, allowWrite, denyWrite } = user.filesystem;
  const absolute = (list: readonly string[]) => list.map((path) => absolutePath(path, workspace));
  const writable = allowWrite === undefined ? view.writable : [...absolute(allowWrite), view.directory];
  return {
    ...user,
    network: { ...user.network, allowedDomains: [] },
    filesystem: {
      ...user.filesystem,
      denyRead: [...absolute(denyRead), ...view.hidden, ...defaultWritable()],
      allowRead: [...absolute(allowRead), ...view.visible],
      allowWrite: [...writable],
      denyWrite: [...absolute(denyWrite), ...view.readOnly],
    },
  };
}

/** Writable in every sandbox of sandbox-runtime unless they are hidden. */
function defaultWritable(): string[] {
  return [".npm/_logs", ".claude/debug"].map((path) => join(homedir(), path));
}

function absolutePath(path: string, workspace: string): string {
  return path.startsWith("~") ? path : resolve(workspace, path);
}
