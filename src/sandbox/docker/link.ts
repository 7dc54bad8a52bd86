import type { Services } from "../link/services.ts";

/** How bytes cross between this host and the containers of an engine. */
export interface Link {
  /** Makes ready what a container needs to reach the host's services. `id` is the container's. */
  open(id: string, services: Services): Promise<OpenLink>;
}

/** One container's link. Disposing ends every connection and removes what was made for it. */
export interface OpenLink extends AsyncDisposable {
  readonly crossing: Crossing;
}

/** What a container is created with, so that bytes can cross. */
export type Crossing = SocketCrossing;

/** Unix sockets of the host in a mounted directory. */
export interface SocketCrossing {
  readonly type: "socket";
  /** On the host. */
  readonly runDirectory: string;
  /** An empty read-only file on the host, mounted over masked files. */
  readonly emptyFile: string;
}
