#!/usr/bin/env bash
# Builds the kernel image for this user (UID and GID matched).
# Usage: ./docker-build.sh [-d requirements.txt] [-b base-image]
#   -d FILE   Python packages baked into the image
#   -b REF    base image (default debian:trixie-slim; bootstrapped from Debian's packages where no registry answers)
set -euo pipefail
cd "$(dirname "$0")"

usage() { sed -n '2,5s/^# //p' "$0"; }

options=()
while getopts ':d:b:h' flag; do
  case "$flag" in
    d) options+=(--requirements "$OPTARG") ;;
    b) options+=(--base-image "$OPTARG") ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

make --no-print-directory engine build
exec node dist/cli/main.js build "${options[@]}"
