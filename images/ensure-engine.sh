#!/usr/bin/env bash
# Makes sure that a Docker Engine answers: uses the one that is there, else installs and starts Debian's or Ubuntu's.
# Running it again changes nothing. Exits 1 with what to do where it may not or cannot install.
set -euo pipefail

say() { printf '\033[2m[engine]\033[0m %s\n' "$*" >&2; }
die() { printf '[engine] %s\n' "$@" >&2; exit 1; }

# Ask the API, not a client: a machine may have a client without an engine, or an engine without a client.
socket="${DOCKER_HOST:-unix:///var/run/docker.sock}"
answers() {
  case "$socket" in
    unix://*) [ -S "${socket#unix://}" ] && curl --silent --fail --max-time 5 --unix-socket "${socket#unix://}" http://engine/_ping >/dev/null 2>&1 ;;
    *) command -v docker >/dev/null && docker info >/dev/null 2>&1 ;;
  esac
}

manual="Install Docker Engine (https://docs.docker.com/engine/install/), make sure that \`docker info\` works for this user, then run this again."

command -v curl >/dev/null 2>&1 || [ "$(id -u)" = 0 ] || die "curl is missing." "Install curl, then run this again."
if ! command -v curl >/dev/null 2>&1; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends curl ca-certificates >/dev/null
fi

if ! answers; then
  [ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST is set to $DOCKER_HOST, but no engine answers there." "Start that engine, or unset DOCKER_HOST, then run this again."
  [ "$(uname -s)" = Linux ] || die "No Docker Engine answers." "Start Docker Desktop, then run this again."
  if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
    die "A Docker Engine is there, but this user may not use it." "Add yourself to its group (sudo usermod -aG docker $(id -un)), log in again, then run this again."
  fi
  [ "$(id -u)" = 0 ] || die "No Docker Engine answers, and only root can install one." "$manual"

  if ! command -v dockerd >/dev/null 2>&1; then
    command -v apt-get >/dev/null 2>&1 || die "No Docker Engine answers, and this is no Debian or Ubuntu." "$manual"
    say "installing Docker Engine (docker.io, iptables)"
    apt-get update -qq || die "apt-get update failed." "Check this machine's package mirrors." "$manual"
    client=$(apt-cache --names-only search '^docker-cli$' | cut -d ' ' -f 1) # a package of its own from Debian 13 on
    # A policy that forbids starting services (common in containers) must not fail the installation.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io $client iptables ca-certificates >/dev/null \
      || die "Installing docker.io failed." "$manual"
  fi

  if ! answers; then
    log=/var/log/dockerd.log
    say "starting dockerd"
    if [ -d /run/systemd/system ]; then
      systemctl start docker || die "systemctl start docker failed." "See: journalctl -u docker"
    else
      setsid dockerd >"$log" 2>&1 </dev/null &
    fi
    for _ in $(seq 1 120); do
      answers && break
      sleep 0.5
    done
    answers || die "dockerd did not answer within 60 s." "Its last lines:" "$(tail -n 15 "$log" 2>/dev/null || true)"
  fi
fi
say "engine answers"
