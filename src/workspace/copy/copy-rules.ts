import { posix, sep } from "node:path";
import { type ShieldOptions, ShieldRules } from "../shield-rules.ts";
import { isTemporaryName } from "./host-tree.ts";

/** Why a path stays on its side. */
export type Refusal = "shielded" | "name" | "outward";

/**
 * What may cross between a workspace and its copy, either way. Names are compared as the most lenient file system
 * would (without case, composition and invisible characters), since the host's may be one.
 */
export class CopyRules {
  readonly #shields: ShieldRules;

  constructor(workspace: string, options: ShieldOptions) {
    const toFolded = (path: string) => fold(posix.isAbsolute(path) ? posix.relative(workspace, path) : path);
    this.#shields = new ShieldRules(posix.sep, {
      mask: options.mask.map(fold),
      protect: options.protect.map(toFolded),
      unprotect: options.unprotect.map(toFolded),
    });
  }

  /** Undefined when `path`, relative and of any shape, may cross. */
  refusalOf(path: string): Refusal | undefined {
    const names = path.split("/");
    if (names.length > MAX_DEPTH || !names.every(isPlainName)) return "name";
    const prefixes = names.map(
      (_, index) =>
        `/${names
          .slice(0, index + 1)
          .map(fold)
          .join("/")}`,
    );
    return prefixes.some((prefix) => this.#shields.masks(prefix) || this.#shields.protects(prefix))
      ? "shielded"
      : undefined;
  }

  /** Whether a link at `path` leads nowhere but into the workspace, whatever links its target passes. */
  refusalOfLink(path: string, target: string): Refusal | undefined {
    const names = target.replace(/\/+$/, "").split("/");
    const ups = names.findIndex((name) => name !== "..");
    const down = names.slice(ups === -1 ? names.length : ups);
    const isDirect = down.every((name) => name === "." || isPlainName(name));
    return isDirect && names.length - down.length < path.split("/").length ? undefined : "outward";
  }

  masks(path: string): boolean {
    return this.#shields.masks(`/${fold(path)}`);
  }
}

function isPlainName(name: string): boolean {
  if (name === "" || name === "." || name === ".." || isTemporaryName(name)) return false;
  if (/[\p{Cc}\p{Cs}]/u.test(name) || Buffer.byteLength(name) > MAX_NAME_BYTES) return false;
  return sep === "/" || !SPECIAL_ON_WINDOWS.test(name);
}

function fold(text: string): string {
  return text
    .normalize("NFKC")
    .replace(/\p{Default_Ignorable_Code_Point}/gu, "")
    .toLowerCase();
}

const MAX_NAME_BYTES = 255;
const MAX_DEPTH = 66;
/** Separators, streams, short names, and ends that Windows drops. */
const SPECIAL_ON_WINDOWS = /[<>:"|?*\\]|~\d|[. ]$/;
