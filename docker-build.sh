#!/usr/bin/env bash
# Builds both images for this user (UID and GID matched): the kernel's, and the all-in-one image.
# Usage: ./docker-build.sh [-t TAG] [-b BASE] [-d requirements.txt]
#   -t TAG    name of the all-in-one image (default ipybox)
#   -b BASE   base image (default debian:trixie-slim; bootstrapped from Debian's packages where no registry answers)
#   -d FILE   Python packages baked into both images
set -euo pipefail
die() { printf '%s\n' "$@" >&2; exit 1; }
usage() { sed -n '2,6s/^# //p' "$0"; }
wrong() { printf '%s\n' "$1" >&2; usage >&2; exit 2; }
is_tag() {
  local part='[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*'
  [[ $1 =~ ^([a-z0-9.-]+(:[0-9]+)?/)?$part(/$part)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$ ]]
}

tag=ipybox
base=debian:trixie-slim
requirements=
while getopts ':t:b:d:h' flag; do
  case "$flag" in
    t) is_tag "$OPTARG" || wrong "-t: '$OPTARG' is no name of an image"; tag=$OPTARG ;;
    b) base=$OPTARG ;;
    d) [ -f "$OPTARG" ] || wrong "-d: there is no file $OPTARG"; requirements=$(realpath "$OPTARG") ;;
    h) usage; exit 0 ;;
    :) wrong "-$OPTARG needs a value" ;;
    *) wrong "There is no option -$OPTARG" ;;
  esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || wrong "There is no argument $1"

cd "$(dirname "$0")"
make --no-print-directory engine build
command -v docker >/dev/null || die "The docker client is missing." "Install it (apt-get install docker-cli), then run this again."

context=$(mktemp -d "${TMPDIR:-/tmp}/ipybox-image.XXXXXX")
trap 'rm -rf "$context"' EXIT

# Cells must not run as the user of the server, which is root in its container.
uid=$(id -u) gid=$(id -g)
if [ "$uid" = 0 ]; then
  uid=${SUDO_UID:-1000} gid=${SUDO_GID:-1000}
  echo "Building as root: cells will run as UID $uid, GID $gid." >&2
fi

# `ipybox build` builds for the owner of the workspace.
install -d "$context/workspace"
[ "$(id -u)" != 0 ] || chown "$uid:$gid" "$context/workspace"
kernel=$(IPYBOX_WORKSPACE="$context/workspace" node dist/cli/main.js build --base-image "$base" \
  ${requirements:+--requirements "$requirements"})
rmdir "$context/workspace"

# The package as npm would publish it, with the dependencies that were tested.
npm pack --silent --ignore-scripts --pack-destination "$context" >/dev/null
tar -xzf "$context"/ipybox-*.tgz -C "$context"
mv "$context/package" "$context/app"
cp package-lock.json "$context/app/"
npm ci --prefix "$context/app" --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
cp "${requirements:-/dev/null}" "$context/app/requirements.txt"

# npm itself. To move on: `npm view npm@VERSION dist.integrity`.
npm_version=10.9.9
npm_integrity=sha512-1g+6jLQvaIuB4zwvHL7yrXuXcWZwDsCtBX8bbWDqbvJSSr9nPiDDWTHNgwXR27iIcTTW7v3A57hDW9RYv2W4Yg==
npm pack --silent --pack-destination "$context" "npm@$npm_version" >/dev/null
sha512() { node -p 'require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64")' "$1"; }
[ "sha512-$(sha512 "$context/npm-$npm_version.tgz")" = "$npm_integrity" ] \
  || die "npm $npm_version from the registry is not the one that is expected." "Check the registry: npm config get registry"
tar -xzf "$context/npm-$npm_version.tgz" -C "$context"
mv "$context/package" "$context/npm"
rm "$context"/*.tgz

cp images/server/Dockerfile images/server/entrypoint "$context/"
proxies=()
for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
  [ -z "${!name:-}" ] || proxies+=(--build-arg "$name")
done
docker build --quiet --tag "$tag" --build-arg KERNEL_IMAGE="$kernel" --build-arg BASE_IMAGE="$base" \
  "${proxies[@]}" "$context" >/dev/null
echo "$tag"
