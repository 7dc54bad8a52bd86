#!/usr/bin/env bash
# Makes the virtual environment in which this directory's Python is checked and tested: make-venv.sh DIRECTORY
# The image's own requirements, those of the tools, and the modules here, importable as they are in the image.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv="${1:?usage: make-venv.sh DIRECTORY}"
die() { printf '[venv] %s\n' "$@" >&2; exit 1; }

python="${PYTHON:-python3}"
command -v "$python" >/dev/null 2>&1 || die "$python is missing." "Install Python 3.11 to 3.14 with its venv module (apt-get install python3-venv)."
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
  || die "$("$python" --version) is too old or too new." "Name a Python 3.11 to 3.14: PYTHON=python3.12 make …"
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || die "Python's venv module is missing." "Install it: apt-get install python3-venv."
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
fi

rm -rf "$venv"
"$python" -m venv "$venv"
# pip only fetches the locked uv, which does the rest ten times as fast.
uv_lock=$(mktemp)
trap 'rm -f "$uv_lock"' EXIT
awk '/^[^ #]/ { uv = /^uv==/ } uv' "$here/requirements.lock" >"$uv_lock"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$uv_lock"
"$venv/bin/uv" pip sync --quiet --require-hashes --python "$venv/bin/python" "$here/requirements.lock" "$here/requirements-dev.lock"
echo "$here" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ipybox.pth"
