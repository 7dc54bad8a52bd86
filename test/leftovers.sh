#!/usr/bin/env bash
# `remember` notes what is there before the tests, `check` fails when there is more of it after them.
set -euo pipefail
cd "$(dirname "$0")/.."

inventory() {
  # Containers of ours, session directories, and processes that serve or were started by a test.
  curl --silent --unix-socket "${DOCKER_SOCKET:-/var/run/docker.sock}" \
    'http://engine/containers/json?all=1&filters=%7B%22label%22%3A%5B%22io.ipybox.session%22%5D%7D' \
    | node -e 'let t="";process.stdin.on("data",c=>t+=c).on("end",()=>{for(const c of JSON.parse(t))console.log("container",c.Names[0])})'
  find /tmp "${XDG_RUNTIME_DIR:-/tmp}" -maxdepth 1 \( -name 'ipybox*' -o -name 'test-ipybox*' \) -printf 'directory %p\n' 2>/dev/null
  pgrep -af 'ipybox|modelcontextprotocol/server-' | grep -vE 'leftovers\.sh|run-all\.mjs|pgrep|dockerd|containerd' | sed 's/^/process /' || true
}

case "${1:-}" in
  remember) inventory | sort -u >reports/before.txt ;;
  check)
    # The last tests' processes may still be on their way out: give them the five seconds that the product promises.
    for _ in $(seq 1 10); do
      left=$(inventory | sort -u | comm -13 reports/before.txt -)
      [ -z "$left" ] && exit 0
      sleep 0.5
    done
    printf 'left behind:\n%s\n' "$left" >&2
    exit 1
    ;;
  *) echo "usage: leftovers.sh remember|check" >&2; exit 2 ;;
esac
