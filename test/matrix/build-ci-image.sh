#!/usr/bin/env bash
# Builds the image of the containers in which a CI's jobs and nested daemons run: build-ci-image.sh TAG
# Prints the base image that it is made from.
set -euo pipefail

tag="${1:?usage: build-ci-image.sh TAG}"
base=$(docker images --filter reference=ipybox-base --format '{{.Repository}}:{{.Tag}}' | head -n 1)
context=$(mktemp -d)
trap 'rm -r "$context"' EXIT
npm pack --silent --pack-destination "$context" npm@10.9.9 >/dev/null
mv "$context"/npm-*.tgz "$context/npm.tgz"
cat >"$context/Dockerfile" <<DOCKERFILE
FROM ${base:=debian:trixie-slim}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \\
    ca-certificates curl docker.io docker-cli git iptables nodejs procps python3
COPY npm.tgz /npm.tgz
RUN mkdir -p /usr/local/lib/node_modules/npm && tar -xzf /npm.tgz -C /usr/local/lib/node_modules/npm --strip-components 1 \\
    && ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx \\
    && npm config set --location=global prefix /usr/local
DOCKERFILE
DOCKER_BUILDKIT=0 docker build --quiet --tag "$tag" "$context" >/dev/null
echo "$base"
