import type { Duplex } from "node:stream";

/** What a sandbox may connect to on the host. */
export type ServiceName = "gateway" | "tools" | "egress";

/** Who takes the connections to each service; a service that is absent can't be connected to. All of them are hostile. */
export type Services = Readonly<Partial<Record<ServiceName, ((stream: Duplex) => void) | undefined>>>;
