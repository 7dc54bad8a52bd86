import type { Diagnosis } from "../engine-admin.ts";

/** What stands between the processes of a sandbox and the host that they run on. */
export interface Confinement {
  readonly engine: "none" | "srt";
  /** How connections cross: by the host's sockets in the run directory, or over init's stdin and stdout. */
  readonly link: "socket" | "relay";
  /** Whether a sandbox has a network of its own, in which a way out has to be made. */
  readonly ownNetwork: boolean;
  /** The command that runs `command` inside. Rejects with `confinement-unavailable` where that can't be done. */
  confine(command: readonly string[], view: View): Promise<readonly string[]>;
  /** What `doctor` says; never rejects. */
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
  link: "socket",
  ownNetwork: false,
  confine: (command) => Promise.resolve(command),
  diagnose: () =>
    Promise.resolve([
      {
        name: "walls",
        status: "warn",
        detail: "none: cells run as this user and reach everything that this user does",
        remedy: "Use --sandbox docker, or srt.",
      },
    ]),
};
