import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { z } from "zod";
import { IpyboxError, messageOf } from "../../common/errors.ts";
import { packageFile } from "../../common/package-files.ts";
import type { Diagnosis } from "../engine-admin.ts";
import { execLink } from "../link/exec-link.ts";
import { socketLink } from "../link/socket-link.ts";
import { type Confinement, NO_LIMITS, type View } from "./confinement.ts";
import { settingsFor, type SrtSettings } from "./srt-settings.ts";
import type { WrapAnswer } from "./srt-wrap.ts";

export interface SrtOptions {
  /** What `--sandbox-config` gives. */
  readonly settings: SrtSettings;
  /** Real path of the workspace, which relative paths of the settings start from. */
  readonly workspace: string;
  /** Where bwrap and ripgrep are looked for. */
  readonly path: string;
}

const answerSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("command"), command: z.string() }),
  z.object({ type: z.literal("ready") }),
  z.object({ type: z.literal("absent") }),
  z.object({ type: z.literal("missing"), needs: z.array(z.string()) }),
  z.object({ type: z.literal("refused"), problems: z.array(z.string()) }),
]);

/** Where nothing is to be run. */
const NO_VIEW: View = { directory: "/", outside: "/", writable: [], readOnly: [], hidden: [], visible: [] };
const ON_LINUX = process.platform === "linux";

/** Anthropic's sandbox-runtime: bubblewrap on Linux, sandbox-exec on macOS. */
export class SrtConfinement implements Confinement {
  readonly engine = "srt";
  /** Its filter on Linux refuses unix sockets, but what is open already passes. */
  readonly link = ON_LINUX ? execLink : socketLink;
  readonly ownNetwork = ON_LINUX;
  readonly #options: SrtOptions;

  constructor(options: SrtOptions) {
    this.#options = options;
  }

  async confine(command: readonly string[], view: View): Promise<readonly string[]> {
    const { settings, workspace } = this.#options;
    const answer = await this.#ask({ command, settings: settingsFor(settings, view, workspace) }, view.outside);
    if (answer.type !== "command") throw unavailable(answer);
    // Not in a file of the program that has ended.
    if (answer.command.startsWith("/bin/sh ")) throw tooLong();
    return ["/bin/sh", "-c", `exec ${answer.command}`];
  }

  async check(): Promise<void> {
    const { settings, workspace } = this.#options;
    const answer = await this.#ask({ settings: settingsFor(settings, NO_VIEW, workspace) }, "/");
    if (answer.type !== "ready" && answer.type !== "command") throw unavailable(answer);
  }

  async diagnose(): Promise<readonly Diagnosis[]> {
    try {
      await this.check();
      const detail = "sandbox-runtime is there: files outside the workspace can be read, there is no network";
      return [{ name: "walls", status: "ok", detail }, NO_LIMITS];
    } catch (error) {
      const remedy = error instanceof IpyboxError ? (error.hint ?? "") : "Use --sandbox docker.";
      return [{ name: "walls", status: "fail", detail: messageOf(error), remedy }, NO_LIMITS];
    }
  }

  /** In its working directory it protects names that are not there, and leaves them behind if it is killed. */
  async #ask(request: object, cwd: string): Promise<WrapAnswer> {
    const child = spawn(process.execPath, ["--", packageFile("dist/sandbox/local/srt-wrap.js")], {
      cwd,
      env: { PATH: this.#options.path, HOME: process.env["HOME"] ?? "/" },
      stdio: ["pipe", "pipe", "pipe"],
    });
    child.stdin.end(JSON.stringify(request));
    const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
    const answer = answerSchema.safeParse(parseJson(output));
    if (answer.success) return answer.data;
    throw new IpyboxError("confinement-unavailable", `sandbox-runtime failed: ${errors.trim().slice(-2000)}`, {
      hint: "Check --sandbox-config, or use --sandbox docker.",
    });
  }
}

function unavailable(answer: Exclude<WrapAnswer, { type: "command" }>): IpyboxError {
  switch (answer.type) {
    case "absent":
      return new IpyboxError("confinement-unavailable", "The package @anthropic-ai/sandbox-runtime is not installed", {
        hint: "Install ipybox with its optional dependencies: npm install --include=optional ipybox.",
      });
    case "missing":
      return new IpyboxError("confinement-unavailable", `sandbox-runtime can't be used: ${answer.needs.join("; ")}`, {
        hint: "On Debian and Ubuntu: apt-get install bubblewrap socat ripgrep. Or use --sandbox docker.",
      });
    case "refused":
      return new IpyboxError(
        "invalid-configuration",
        `sandbox-runtime refuses its settings: ${answer.problems.join("; ")}`,
        {
          hint: "Check --sandbox-config.",
        },
      );
    case "ready":
      return new IpyboxError("confinement-unavailable", "sandbox-runtime wrapped no command");
  }
}

function tooLong(): IpyboxError {
  return new IpyboxError("sandbox-start-failed", "There are too many files to hide or protect one by one", {
    hint: "Give a narrower workspace, fewer --mask, or use --sandbox docker.",
  });
}

function parseJson(output: string): unknown {
  try {
    return JSON.parse(output);
  } catch {
    return undefined;
  }
}
