import type { Logger } from "../../common/logger.ts";
import type { Carrier } from "./multiplexer.ts";
import type { RunDirectoryOwner } from "./run-directory.ts";
import type { Services } from "./services.ts";

/** How bytes cross between this host and the sandboxes of an engine. */
export interface Link {
  readonly name: "socket" | "exec";
  /** Makes ready what a sandbox needs to reach the host's services. */
  open(place: LinkPlace, services: Services): Promise<OpenLink>;
}

/** The host's side of one sandbox. */
export interface LinkPlace {
  /** The sandbox's own. */
  readonly runDirectory: string;
  /** The user inside. */
  readonly owner: RunDirectoryOwner;
  readonly logger: Logger;
}

/** One sandbox's link. Disposing ends every connection. */
export interface OpenLink extends AsyncDisposable {
  readonly crossing: Crossing;
  /** Takes over init's stdin and stdout; absent where the link does without. */
  readonly carry?: (carrier: Carrier) => void;
}

/** What a sandbox is made with, so that bytes can cross. */
export type Crossing =
  /** Unix sockets of the host in the run directory, and an empty file of the host for masks. */
  | { readonly type: "socket"; readonly runDirectory: string; readonly emptyFile: string }
  /** Stdin and stdout. The engine may have no file of this host but those of the workspace. */
  | { readonly type: "exec" };
