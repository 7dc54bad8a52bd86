#!/usr/bin/env bash
# Makes sure that sandbox-runtime (--sandbox srt) finds bubblewrap, socat and ripgrep. Running it again changes nothing.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 0
missing=()
command -v bwrap >/dev/null 2>&1 || missing+=(bubblewrap)
command -v socat >/dev/null 2>&1 || missing+=(socat)
command -v rg >/dev/null 2>&1 || missing+=(ripgrep)
[ "${#missing[@]}" -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  printf '[srt] missing: %s\nInstall them (on Debian and Ubuntu: apt-get install %s), then run this again.\n' "${missing[*]}" "${missing[*]}" >&2
  exit 1
fi
printf '\033[2m[srt]\033[0m installing %s\n' "${missing[*]}" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
