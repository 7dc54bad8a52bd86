import { IpyboxError } from "../common/errors.ts";
import type { InstallerResult } from "./installation.ts";
import { type Requirement, toRule } from "./requirement.ts";

/** What the user is told of an installer that failed, and what may help. */
export function toFailure(
  requirement: Requirement,
  output: string,
  { code, outOfMemory }: InstallerResult,
): IpyboxError {
  if (code === ENOSPC) {
    return new IpyboxError("disk-full", output, { hint: "Free some space on the container engine's disk" });
  }
  if (outOfMemory) {
    return new IpyboxError("install-failed", `The installer ran out of memory\n${output}`.trim(), {
      hint: "Start ipybox with a larger --memory",
    });
  }
  return new IpyboxError("install-failed", output === "" ? "The installer ended without a word" : output, {
    hint: hintFor(requirement, output),
  });
}

function hintFor(requirement: Requirement, output: string): string {
  if (output.includes("build --requirements"))
    return "Bake the packages into the image: ipybox build --requirements FILE";
  if (NO_COMPILER.test(output)) {
    return "It has to be compiled, and the kernel image has no compiler: take a version that comes as a wheel, or a --base-image that has one";
  }
  if (output.includes("HTTP status server error"))
    return "A package index does not answer: check this host's network, its proxies and --index-url";
  if (/is disabled|--no-build/i.test(output))
    return "Nothing is built from source here: give a version that has a wheel, or bake the package into the image";
  if ("host" in requirement && DENIED_TUNNEL.test(output)) {
    return `${requirement.host} could not be reached: the log says why. Where it has a private address, start ipybox with --allow-private ${toRule(requirement)}`;
  }
  switch (requirement.kind) {
    case "index":
      return "Check the name and version; packages come from the configured indexes only";
    case "url":
    case "git":
      return `Check the URL; the installer reaches ${requirement.host} and the configured indexes only`;
    case "local":
      return "Give a wheel, a source archive or a directory with a pyproject.toml";
  }
}

/** What setuptools, meson, CMake and builds in Rust say. */
const NO_COMPILER =
  /(?:gcc|g\+\+|\bcc|clang|rustc|cargo)\b[^\n]*(?:no such file|not found)|no such file[^\n]*(?:gcc|g\+\+|clang)|(?:unknown|find)[^\n]{0,40}compiler|CMAKE_C(?:XX)?_COMPILER/i;
/** What uv, and git, say of the proxy's refusal, whose words they don't show. */
const DENIED_TUNNEL = /tunnel error|CONNECT tunnel failed/i;
/** Init's exit code for a task that it ended because too little was free on the disk. */
const ENOSPC = 28;
