import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import { IpyboxError } from "../common/errors.ts";
import { withoutBrackets } from "./addresses.ts";

/** Which hosts and ports may be reached. */
export interface AllowRule {
  /** In ASCII, lower case, without a trailing dot; for a wildcard the part behind `*.`. */
  readonly host: string;
  /** `*.example.org`: any name below, not the name itself. */
  readonly wildcard: boolean;
  readonly ports: readonly number[];
}

const DEFAULT_PORTS = [443, 80];

/**
 * Reads `example.org`, `*.example.org`, `example.org:8443`, `[2001:db8::1]:443`; the ports are 443 and 80 without one.
 * `option` is named in the error.
 */
export function parseAllowRule(text: string, option: string): AllowRule {
  const wildcard = text.startsWith("*.");
  const target = splitTarget(wildcard ? text.slice(2) : text);
  const host = target && canonicalHost(target.host);
  if (host === undefined || (wildcard && (isIP(host) !== 0 || !host.includes(".")))) {
    throw new IpyboxError("invalid-configuration", `${option}: '${text}' is no host name`, {
      hint: "Give a name such as example.org, *.example.org or example.org:8443",
    });
  }
  return { host, wildcard, ports: target?.port === undefined ? DEFAULT_PORTS : [target.port] };
}

/** The text of the rule that admits `host`, as {@link canonicalHost} returned it, at `port`. */
export function formatAllowRule(host: string, port: number): string {
  const name = isIP(host) === 6 ? `[${host}]` : host;
  return DEFAULT_PORTS.includes(port) ? name : `${name}:${port}`;
}

/** Whether a rule admits `host` at `port`. Pure: nothing is resolved. `host` is what {@link canonicalHost} returned. */
export function isAllowed(rules: readonly AllowRule[], host: string, port: number): boolean {
  return rules.some(
    (rule) => rule.ports.includes(port) && (rule.wildcard ? host.endsWith(`.${rule.host}`) : host === rule.host),
  );
}

/**
 * The one spelling of a host: ASCII, lower case, no trailing dot, no brackets. Undefined for what is no host name, and
 * for IPv4 addresses in any form but four decimal numbers (`0x7f.1`, `2130706433`, `127.1`, `0177.0.0.1`).
 */
export function canonicalHost(text: string): string | undefined {
  const bare = withoutBrackets(text);
  if (isIP(bare) === 6) return new URL(`http://[${bare.split("%")[0] ?? ""}]`).hostname.slice(1, -1);
  const name = bare.endsWith(".") ? bare.slice(0, -1) : bare;
  if (isIP(name) === 4) return name;
  // domainToASCII parses as in a URL: it would cut `example.org/x` short and decode `%2e`.
  if (/[\s/?#@:%\\]/.test(name)) return undefined;
  const ascii = domainToASCII(name);
  // WHATWG takes a host for an IPv4 address when its last label is a number; the resolver may, too.
  if (isIP(ascii) !== 0 || /(^|\.)(\d+|0x[0-9a-f]*)$/.test(ascii)) return undefined;
  return ascii.length <= 253 && ascii.split(".").every((label) => LABEL.test(label)) ? ascii : undefined;
}

/** Splits `host`, `host:port` or `[v6]:port`; undefined where the port is no port. */
export function splitTarget(text: string): { readonly host: string; readonly port?: number } | undefined {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1];
  if (host === undefined || host === "") return undefined;
  if (match?.[2] === undefined) return { host };
  const port = Number(match[2]);
  return port >= 1 && port <= 65_535 ? { host, port } : undefined;
}

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
