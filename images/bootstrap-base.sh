#!/usr/bin/env bash
# Makes a base image for the kernel image where no image registry answers: a minimal Debian by debootstrap.
#
#   bootstrap-base.sh --stdout    write the root file system as a tar to stdout (for an engine's import call)
#   bootstrap-base.sh [TAG]       import it with the docker client as TAG (default ipybox-base:trixie); nothing to do if it is there
#
# Progress goes to stderr, one line a step. IPYBOX_DEBIAN_SUITE and IPYBOX_DEBIAN_MIRROR choose another suite or mirror.
set -euo pipefail

suite="${IPYBOX_DEBIAN_SUITE:-trixie}"
mirror="${IPYBOX_DEBIAN_MIRROR:-http://deb.debian.org/debian}"

say() { printf '[base] %s\n' "$*" >&2; }
die() { printf '[base] %s\n' "$@" >&2; exit 1; }

ensure_debootstrap() {
  command -v debootstrap >/dev/null 2>&1 && return
  command -v apt-get >/dev/null 2>&1 \
    || die "debootstrap is missing." "Install debootstrap with this system's package manager, then run this again."
  say "installing debootstrap"
  apt-get update -qq >&2 || die "apt-get update failed." "Check this machine's package mirrors, or install debootstrap by hand."
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null \
    || die "Installing debootstrap failed." "Install it by hand (apt-get install debootstrap), then run this again."
}

# Writes the root file system to stdout. Runs in a subshell whose EXIT trap removes the work directory.
write_rootfs() (
  [ "$(uname -s)" = Linux ] || die "A base image can be made on Linux only." "Let the engine pull one: --base-image debian:trixie-slim."
  [ "$(id -u)" = 0 ] || die "Making a base image needs root (debootstrap)." \
    "Run this as root, or let the engine pull a base image: --base-image debian:trixie-slim."
  ensure_debootstrap
  work=$(mktemp -d "${TMPDIR:-/tmp}/ipybox-base.XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
  trap 'exit 130' INT TERM
  log="$work/debootstrap.log"
  rootfs="$work/rootfs"
  # Not every Debian release ships the script of a newer suite; they are all the same script.
  script="/usr/share/debootstrap/scripts/$suite"
  [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
  say "debootstrap $suite from $mirror (about half a minute)"
  debootstrap --variant=minbase "$suite" "$rootfs" "$mirror" "$script" >"$log" 2>&1 \
    || { tail -n 15 "$log" >&2; die "debootstrap of $suite from $mirror failed." "Check that the mirror can be reached, or set IPYBOX_DEBIAN_MIRROR."; }
  if [ "$suite" != sid ]; then
    printf 'deb %s %s main\ndeb %s %s-updates main\n' "$mirror" "$suite" "$mirror" "$suite" >"$rootfs/etc/apt/sources.list"
    printf 'deb %s-security %s-security main\n' "${mirror%/}" "$suite" >>"$rootfs/etc/apt/sources.list"
  fi
  rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/log/bootstrap.log \
    "$rootfs"/usr/share/doc/* "$rootfs"/usr/share/man/* "$rootfs"/usr/share/locale/*
  : >"$rootfs/etc/machine-id"
  rm -f "$rootfs/etc/resolv.conf" "$rootfs/etc/hostname" # the host's, left there by debootstrap
  # Documentation and translations of packages installed later stay out as well.
  printf 'path-exclude /usr/share/%s/*\n' doc man locale info >"$rootfs/etc/dpkg/dpkg.cfg.d/ipybox"
  say "packing the root file system"
  tar --create --numeric-owner --one-file-system --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* --directory="$rootfs" .
)

import() {
  tag="$1"
  command -v docker >/dev/null 2>&1 \
    || die "There is no docker client." "Import it another way: $0 --stdout | <engine's import>."
  if docker image inspect "$tag" >/dev/null 2>&1; then
    say "$tag is there"
    return
  fi
  write_rootfs | docker import --change 'CMD ["bash"]' - "$tag" >/dev/null || die "$tag was not made."
  say "$tag made"
}

case "${1:-ipybox-base:trixie}" in
  --stdout)
    [ ! -t 1 ] || die "stdout is a terminal." "Redirect it: $0 --stdout > base.tar"
    write_rootfs
    ;;
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0" ;;
  -*) die "Unknown option: $1." "See $0 --help." ;;
  *) import "${1:-ipybox-base:trixie}" ;;
esac
