import type { Carrier } from "../link/multiplexer.ts";
import type { Services } from "../link/services.ts";

/** How bytes cross between this host and the containers of an engine. */
export interface Link {
  readonly name: "socket" | "exec";
  /** Makes ready what a container needs to reach the host's services. `id` is the container's. */
  open(id: string, services: Services): Promise<OpenLink>;
}

/** One container's link. Disposing ends every connection and removes what was made for it. */
export interface OpenLink extends AsyncDisposable {
  readonly crossing: Crossing;
  /** Takes over the container's stdin and stdout; absent where the link does without. */
  readonly carry?: (carrier: Carrier) => void;
}

/** What a container is created with, so that bytes can cross. */
export type Crossing =
  /** Unix sockets of the host in a mounted directory, and an empty file of the host for masks. */
  | { readonly type: "socket"; readonly runDirectory: string; readonly emptyFile: string }
  /** Stdin and stdout. The engine may have no file of this host but those of the workspace. */
  | { readonly type: "exec" };
