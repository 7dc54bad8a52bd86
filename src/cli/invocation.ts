import type { Config } from "../config/options.ts";

/** One use of the command line, its options checked. */
export interface Invocation {
  readonly config: Config;
  /** The command's own flags. */
  readonly own: Readonly<Record<string, string | true>>;
  readonly operand: string | undefined;
}
