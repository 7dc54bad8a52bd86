import { describe, expect, it } from "vitest";
import { isPublicAddress } from "../../../src/egress/addresses.ts";
import { canonicalHost, isAllowed, parseAllowRule, splitTarget } from "../../../src/egress/allow-list.ts";

function admits(rule: string, host: string, port = 443): boolean {
  const name = canonicalHost(host);
  return name !== undefined && isAllowed([parseAllowRule(rule, "--allow-domain")], name, port);
}

describe("the allow-list", () => {
  it.each([
    ["example.org", "example.org", 443],
    ["example.org", "example.org", 80],
    ["example.org", "EXAMPLE.org.", 443],
    ["Example.ORG", "example.org", 443],
    ["*.example.org", "a.example.org", 443],
    ["*.example.org", "a.b.example.org", 443],
    ["example.org:8443", "example.org", 8443],
    ["bücher.example", "xn--bcher-kva.example", 443],
    ["xn--bcher-kva.example", "bücher.example", 443],
    ["10.1.2.3", "10.1.2.3", 443],
    ["[2001:db8::1]:443", "[2001:0db8:0::1]", 443],
  ])("%s admits %s:%i", (rule, host, port) => {
    expect(admits(rule, host, port)).toBe(true);
  });

  it.each([
    ["example.org", "a.example.org", 443],
    ["example.org", "example.org.evil.test", 443],
    ["example.org", "notexample.org", 443],
    ["example.org", "example.org", 22],
    ["example.org:8443", "example.org", 443],
    ["*.example.org", "example.org", 443],
    ["*.example.org", "aexample.org", 443],
    ["127.0.0.1", "2130706433", 443],
    ["127.0.0.1", "0x7f.0.0.1", 443],
    ["127.0.0.1", "127.1", 443],
    ["127.0.0.1", "0177.0.0.1", 443],
    ["example.org", "example.org%00.evil.test", 443],
    ["example.org", "exam ple.org", 443],
    ["example.org", "example.org..", 443],
  ])("%s does not admit %s:%i", (rule, host, port) => {
    expect(admits(rule, host, port)).toBe(false);
  });

  it.each([
    "",
    "*",
    "*.",
    "*.org",
    "https://example.org",
    "example.org/path",
    "example.org:0",
    "a b",
    "0x7f.1",
    "*.1.2.3.4",
  ])("refuses the rule %j", (rule) => {
    expect(() => parseAllowRule(rule, "--allow-domain")).toThrow("--allow-domain");
  });

  it("splits hosts and ports", () => {
    expect(splitTarget("[::1]:80")).toEqual({ host: "[::1]", port: 80 });
    expect(splitTarget("a:70000")).toBeUndefined();
    expect(splitTarget("::1")).toBeUndefined();
  });
});

describe("addresses", () => {
  it.each(["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"])(
    "%s is public",
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
    },
  );

  it.each([
    ...[
      "127.0.0.1",
      "127.9.9.9",
      "0.0.0.0",
      "10.0.0.1",
      "172.16.0.1",
      "172.31.255.255",
      "192.168.1.1",
      "169.254.169.254",
    ],
    ...["100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "168.63.129.16", "192.0.2.1"],
    ...[
      "::1",
      "::",
      "::ffff:127.0.0.1",
      "::ffff:7f00:1",
      "::ffff:8.8.8.8",
      "64:ff9b::7f00:1",
      "2002:7f00:1::",
      "fe80::1",
    ],
    ...["fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001::1", "localhost", "0x7f.1", ""],
  ])("%s is not public", (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });
});
