# `make demo` and `make test` set up whatever is missing on a fresh machine; running them again is quick.
SHELL := bash
.DEFAULT_GOAL := help
VENV := images/kernel/.venv

.PHONY: help demo test check bench soak matrix build engine srt image readme clean

help: ## Show this text
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: engine build ## Run the main job with a real MCP client and real MCP servers
	@node dist/cli/main.js build
	@node docs/demo/demo.mjs

test: engine srt build $(VENV)/.complete ## Run everything: format, lint, types, unit, python, contract, integration, attempts, e2e
	@node dist/cli/main.js build
	@node test/run-all.mjs

check: build $(VENV)/.complete ## Format, lint, types and unit tests: seconds, no engine
	@node test/run-all.mjs --fast

build: node_modules/.package-lock.json ## Compile to dist/
	@npm run --silent build

engine: ## Install and start Docker Engine where none answers
	@bash images/ensure-engine.sh

srt: ## Install what sandbox-runtime needs where it is missing
	@bash images/ensure-srt.sh

image: engine build ## Build the kernel image
	@node dist/cli/main.js build

bench: engine build ## Measure beside the original ipybox from PyPI; writes bench/results.json
	@node bench/run.mjs

soak: engine build ## 100,000 cells and 1,000 resets in one session, then 200 sessions killed at random points: nothing may grow or stay
	@node bench/soak.mjs
	@node test/soak/sessions.mjs 200

matrix: engine srt build $(VENV)/.complete ## Contract and end-to-end tests on every engine that this machine can have, a row for each; ROWS="podman e2e/cells": some
	@node test/matrix/run.mjs $(ROWS)

readme: build ## Rewrite the README's generated tables
	@node docs/readme-tables.mjs

clean: ## Remove what make made
	rm -rf node_modules dist coverage reports demo-workspace $(VENV)

node_modules/.package-lock.json: package-lock.json package.json
	@npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

$(VENV)/.complete: images/kernel/requirements.lock images/kernel/requirements-dev.lock
	@bash images/kernel/make-venv.sh $(VENV)
	@touch $@
