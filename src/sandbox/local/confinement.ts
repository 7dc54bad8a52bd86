import type { Diagnosis } from "../engine-admin.ts";
import type { Link } from "../link/link.ts";
import { socketLink } from "../link/socket-link.ts";

/** What stands between the processes of a sandbox and the host that they run on. */
export interface Confinement {
  readonly engine: "none" | "srt";
  readonly link: Link;
  /** Whether a sandbox has a network of its own, in which a way out has to be made. */
  readonly ownNetwork: boolean;
  /** The command that runs `command` inside. Rejects with `confinement-unavailable` where that can't be done. */
  confine(command: readonly string[], view: View): Promise<readonly string[]>;
  /** Rejects where `confine` would, whatever the command. */
  check(): Promise<void>;
  /** What `doctor` says of walls and limits; never rejects. */
  diagnose(): Promise<readonly Diagnosis[]>;
}

/** What a sandbox sees of this host's files. All paths are real; what is not named can be read. */
export interface View {
  /** A directory of the sandbox's own. */
  readonly directory: string;
  /** A directory for it that it neither sees nor writes. */
  readonly outside: string;
  readonly writable: readonly string[];
  /** Within what is writable. */
  readonly readOnly: readonly string[];
  readonly hidden: readonly string[];
  /** Within what is hidden. */
  readonly visible: readonly string[];
}

/** None at all: the processes of a sandbox are like any other of their user. */
export const NO_CONFINEMENT: Confinement = {
  engine: "none",
  link: socketLink,
  ownNetwork: false,
  confine: (command) => Promise.resolve(command),
  check: () => Promise.resolve(),
  diagnose: () =>
    Promise.resolve([
      {
        name: "walls",
        status: "warn",
        detail: "none: cells run as this user and reach everything that this user does",
        remedy: "Use --sandbox docker, or srt.",
      },
      NO_LIMITS,
    ]),
};

/** That of the all-in-one image: a user of its own, no sockets of the internet, and the container around it all. */
export const OTHER_USER: Confinement = {
  ...NO_CONFINEMENT,
  diagnose: () =>
    Promise.resolve([
      {
        name: "walls",
        status: "ok",
        detail:
          "cells run in this container, as another user than the server and without sockets of the internet; files of " +
          "the workspace can't be hidden from them",
      },
      {
        name: "limits",
        status: "warn",
        detail: "memory, CPU and processes are limited as this container is",
        remedy: "Give --memory, --cpus and --pids-limit to `docker run`.",
      },
    ]),
};

export const NO_LIMITS: Diagnosis = {
  name: "limits",
  status: "warn",
  detail: "memory, CPU, processes and temporary files are not limited by this engine",
  remedy: "Use --sandbox docker where a cell must not be able to exhaust this machine.",
};
