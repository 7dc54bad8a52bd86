import { BlockList, isIP, isIPv6 } from "node:net";

/**
 * Whether an address belongs to the public internet: not private, loopback, link-local (cloud metadata is there),
 * shared, multicast, documentation or reserved, and no IPv6 form that carries an IPv4 address.
 * Anything that is not an address in its usual textual form is not public.
 */
export function isPublicAddress(address: string): boolean {
  const bare = address.split("%")[0] ?? "";
  switch (isIP(bare)) {
    case 4:
      return !SPECIAL_IPV4.check(bare, "ipv4");
    case 6:
      return GLOBAL_UNICAST_IPV6.check(bare, "ipv6") && !SPECIAL_IPV6.check(bare, "ipv6");
    default:
      return false;
  }
}

/** A host as it stands in a URL, without the brackets of an IPv6 literal. */
export function withoutBrackets(host: string): string {
  const inner = host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host;
  return isIPv6(inner) ? inner : host;
}

const blockList = (family: "ipv4" | "ipv6", subnets: readonly string[]): BlockList => {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [network = "", prefix = ""] = subnet.split("/");
    list.addSubnet(network, Number(prefix), family);
  }
  return list;
};

// IANA's special-purpose registries: https://www.iana.org/assignments/iana-ipv4-special-registry, -ipv6-special-registry
const SPECIAL_IPV4 = blockList("ipv4", [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
  // Azure's metadata and DNS service has a public number.
  "168.63.129.16/32",
]);

// Everything outside is mapped, translated, local or reserved: ::/8 (::1, ::ffff:0:0/96), 64:ff9b::/96, fc00::/7, fe80::/10, ff00::/8.
const GLOBAL_UNICAST_IPV6 = blockList("ipv6", ["2000::/3"]);

const SPECIAL_IPV6 = blockList("ipv6", [
  "2001::/23", // Teredo and other protocol assignments
  "2001:db8::/32",
  "2002::/16", // 6to4: an IPv4 address inside
  "3fff::/20",
]);
