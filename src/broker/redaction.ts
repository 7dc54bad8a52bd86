import { existsSync } from "node:fs";
import { isAbsolute } from "node:path";
import { IpyboxError } from "../common/errors.ts";
import { isDeeperThan } from "../common/json-depth.ts";
import { stripControls } from "../common/logger.ts";
import type { Variables } from "./placeholders.ts";

/** Takes secrets out of whatever an upstream says. */
export interface Redactor {
  text(text: string): string;
  /**
   * Every string of a JSON value, keys included; the very same value where there is nothing to look for.
   *
   * @throws IpyboxError `tool-failed` for a value nested so deep that nothing could be done with it.
   */
  json<T>(value: T): T;
}

export interface RedactionOptions {
  readonly variables: Variables;
  /** Names of the variables that the upstream was given by placeholder. */
  readonly used: ReadonlySet<string>;
  /** Names whose values are no secrets, whatever they look like. */
  readonly exempt: readonly string[];
}

const MIN_SECRET_CHARACTERS = 8;
/** From this length on a value is a secret whatever its variable is called. */
const LONG_VALUE_CHARACTERS = 20;
const SECRET_NAME = /KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH/i;
const MAX_DEPTH = 500;
/** Controls, and characters of format that have no glyph. */
const UNSEEN_CLASS = String.raw`[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]`;
const UNSEEN = new RegExp(UNSEEN_CLASS);
const UNSEEN_CHARACTERS = new RegExp(UNSEEN_CLASS, "g");

/**
 * A redactor of the values that `used` variables have, and of all in the env file. Each is found in plain,
 * URL-encoded, JSON-escaped and Base64 form (whatever it was encoded together with) and replaced by `${NAME}`.
 */
export function createRedactor(options: RedactionOptions): Redactor {
  const names = new Map<string, string>();
  for (const [name, { value, fromEnvFile }] of options.variables) {
    if (!fromEnvFile && !options.used.has(name)) continue;
    if (options.exempt.includes(name) || !isSecret(name, value)) continue;
    for (const secret of [value, ...passwordIn(value), ...linesOf(value)]) {
      for (const form of formsOf(secret)) if (!names.has(form)) names.set(form, name);
    }
  }
  if (names.size === 0) return { text: (text) => text, json: (value) => shallow(value) };

  // Longest first, so that a value is not replaced by the name of another that it begins with.
  const forms = [...names.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(forms.map(escapeRegExp).join("|"), "g");
  const replace = (input: string) => input.replace(pattern, (form) => `\${${names.get(form) ?? "SECRET"}}`);
  const text = (input: string) => {
    const redacted = replace(input);
    if (!UNSEEN.test(redacted)) return redacted;
    // Generated modules, terminals and logs leave these out, which must not put a secret together again.
    const seen = stripControls(redacted).replace(UNSEEN_CHARACTERS, "");
    const seenRedacted = replace(seen);
    return seenRedacted === seen ? redacted : seenRedacted;
  };
  return {
    text,
    // redactStrings keeps the shape: strings become strings, everything else is copied.
    json: <T>(value: T) => redactStrings(shallow(value), text) as T,
  };
}

function isSecret(name: string, value: string): boolean {
  if (name === "WORKSPACE" || value.length < MIN_SECRET_CHARACTERS) return false;
  if (value.length < LONG_VALUE_CHARACTERS && !SECRET_NAME.test(name)) return false;
  return !(isAbsolute(value) && existsSync(value)) && !isPlainUrl(value);
}

/** A URL that carries no credentials. A query or fragment may be one. */
function isPlainUrl(value: string): boolean {
  const url = parseUrl(value);
  return url !== undefined && [url.username, url.password, url.search, url.hash].every((part) => part === "");
}

function passwordIn(value: string): string[] {
  const password = parseUrl(value)?.password ?? "";
  return [password, decodeOr(password)].filter((part) => part.length >= MIN_SECRET_CHARACTERS);
}

/** Of a key in PEM form, say, which is often shown line by line. */
function linesOf(value: string): string[] {
  const lines = value.split(/\r?\n/).map((line) => line.trim());
  return lines.length === 1
    ? []
    : lines.filter((line) => line.length >= LONG_VALUE_CHARACTERS && !line.startsWith("-----"));
}

function parseUrl(value: string): URL | undefined {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(value) && URL.canParse(value) ? new URL(value) : undefined;
}

function decodeOr(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function formsOf(secret: string): Set<string> {
  const json = JSON.stringify(secret).slice(1, -1);
  const escaped = [json, json.replaceAll("/", "\\/"), toAscii(json), json.replaceAll(/[<>&]/g, toEscape)];
  const forms = [secret, ...escaped, ...urlForms(secret), ...base64Forms(secret)];
  return new Set(forms.filter((form) => form.length >= MIN_SECRET_CHARACTERS));
}

/** As encoders that write ASCII only do it, Python's among them. */
function toAscii(text: string): string {
  return text.replaceAll(/[^\0-\x7f]/g, toEscape);
}

function toEscape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function urlForms(secret: string): string[] {
  const encoded = encodeURIComponent(secret);
  const strict = encoded.replaceAll(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);
  const forms = [encoded, strict, encodeURI(secret)];
  forms.push(...forms.map((form) => form.replaceAll("%20", "+")));
  return [...forms, ...forms.map((form) => form.replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()))];
}

/**
 * The Base64 characters that depend on the secret alone, for each of the three ways in which it can lie across
 * groups of three bytes, and its own encoding to the last character.
 */
function base64Forms(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const forms = [bytes.toString("base64"), bytes.toString("base64").replace(/=+$/, "")];
  for (const offset of [0, 1, 2]) {
    const encoded = Buffer.concat([Buffer.alloc(offset), bytes]).toString("base64");
    forms.push(encoded.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + bytes.length) * 8) / 6)));
  }
  return [...forms, ...forms.map((form) => form.replaceAll("+", "-").replaceAll("/", "_"))];
}

/** The value, unless recursion over it would not end well. */
function shallow<T>(value: T): T {
  if (!isDeeperThan(MAX_DEPTH, value)) return value;
  throw new IpyboxError("tool-failed", `The server answered with JSON nested more than ${MAX_DEPTH} levels deep`);
}

function redactStrings(value: unknown, redact: (text: string) => string): unknown {
  if (typeof value === "string") return redact(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => redactStrings(item, redact));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [redact(key), redactStrings(item, redact)]));
}

function escapeRegExp(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`);
}
