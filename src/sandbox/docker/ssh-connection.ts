import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { Duplex } from "node:stream";
import { IpyboxError } from "../../common/errors.ts";
import type { EngineEndpoint } from "../engine-endpoint.ts";

const KEPT_WORDS = 4096;

/**
 * A connection to the engine of another machine, made as the docker command makes it: by `ssh`, to the standard streams
 * of `docker system dial-stdio` there. It ends with the process, and the process with it or with us.
 *
 * Its error is an IpyboxError `engine-unreachable` with ssh's own words, or the system's where there is no ssh in `PATH`.
 */
export function dialOverSsh(
  { address, args }: Extract<EngineEndpoint, { type: "ssh" }>,
  env: Readonly<Record<string, string | undefined>>,
): Duplex {
  // In a session of its own: what a terminal sends us must not end the connection over which we tidy up.
  return new SshConnection(spawn("ssh", args, { env, detached: true }), address);
}

class SshConnection extends Duplex {
  readonly #ssh: ChildProcessWithoutNullStreams;
  #words = "";

  constructor(ssh: ChildProcessWithoutNullStreams, address: string) {
    super();
    this.#ssh = ssh;
    ssh.stdin.on("error", () => undefined); // its end says why
    ssh.stdout.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) ssh.stdout.pause();
    });
    ssh.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#words = (this.#words + text).slice(-KEPT_WORDS);
    });
    ssh.once("error", (error) => this.destroy(error));
    ssh.once("close", (code) => {
      if (code === 0) this.push(null);
      else this.destroy(unreachable(address, this.#words));
    });
  }

  override _read(): void {
    this.#ssh.stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#ssh.stdin.write(chunk, () => done());
  }

  override _final(done: () => void): void {
    this.#ssh.stdin.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#ssh.kill();
    done(error);
  }
}

function unreachable(address: string, words: string): IpyboxError {
  const reason = words.trim().split(/\r?\n/).at(-1);
  return new IpyboxError(
    "engine-unreachable",
    `The container engine does not answer at ${address}: ${reason === undefined || reason === "" ? "ssh ended" : reason}`,
    {
      hint: "`docker version` must work there, over ssh that asks no question (a key in an agent, a known host); then call again.",
    },
  );
}
