# Boatyard: everything one does with the tree. `make` alone says what there is.
#
# A fresh Debian 12 with Rust, Node and git is enough; what else is missing (a C compiler, and for
# the tests of the page a browser) is installed by the targets that need it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO ?= cargo
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
MACHINE := $(shell uname -m)-linux
RELEASE := boatyard-$(VERSION)-$(MACHINE)

# Where `make run` and `make dev` keep their data, and what else `boatyard up` is given.
DATA ?=
UP ?=
UP_FLAGS = $(if $(DATA),--data $(DATA)) $(UP)

# The checks need no Node: only `run`, `release` and the tests of the page build it.
CHECKS := BOATYARD_PAGE=skip
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)
ifeq ($(NEXTEST),yes)
  RUN_TESTS := $(CHECKS) $(CARGO) nextest run --no-fail-fast --locked
else
  RUN_TESTS := $(CHECKS) $(CARGO) test --no-fail-fast --locked
endif

# Suites that make real sandboxes stand apart: they are the slow ones.
SANDBOX := -p boatyard-sandbox -p boatyard-runtime
SERVER := -p boatyard-server -p boatyard-store
CLI := -p boatyard-cli

.PHONY: help
help: ## Show this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

# --- use -----------------------------------------------------------------------------------------

.PHONY: run
run: .need-cc web/node_modules/.lock.stamp ## Build Boatyard with its page, start it, print a link
	BOATYARD_PAGE=require $(CARGO) build --release --locked -p boatyard-cli
	@echo "The command line is target/release/boatyard; \`export PATH=\"\$$PWD/target/release:\$$PATH\"\` makes it \`boatyard\`."
	exec target/release/boatyard up $(UP_FLAGS)

.PHONY: dev
dev: .need-cc web/node_modules/.lock.stamp ## Server and page with hot reload (page on :5173)
	$(CHECKS) $(CARGO) build -p boatyard-cli
	trap 'kill $$(jobs -p) 2>/dev/null || true; wait' EXIT INT TERM; \
	target/debug/boatyard up $(UP_FLAGS) & \
	npm --prefix web run --silent dev & \
	wait -n

.PHONY: release
release: .need-cc web/node_modules/.lock.stamp ## dist/: the binary, packed, with checksums
	BOATYARD_PAGE=require $(CARGO) build --release --locked -p boatyard-cli
	rm -rf dist/$(RELEASE) && mkdir -p dist/$(RELEASE)
	cp target/release/boatyard README.md CHANGELOG.md LICENSE boatyard.toml dist/$(RELEASE)/
	mkdir -p dist/$(RELEASE)/completions
	for shell in bash zsh fish; do \
	  target/release/boatyard completion $$shell > dist/$(RELEASE)/completions/boatyard.$$shell; \
	done
	tar -C dist --owner=0 --group=0 --numeric-owner --sort=name -czf dist/$(RELEASE).tar.gz $(RELEASE)
	cp target/release/boatyard dist/$(RELEASE).bin
	rm -rf dist/$(RELEASE) && mv dist/$(RELEASE).bin dist/$(RELEASE)
	cd dist && sha256sum $(RELEASE) $(RELEASE).tar.gz > SHA256SUMS && cat SHA256SUMS

.PHONY: bench
bench: .need-cc ## Measure this machine; SUITE= one suite, JSON=1 for JSON
	BOATYARD_PAGE=$(if $(wildcard web/node_modules),auto,skip) $(CARGO) build --release --locked -p boatyard-cli
	target/release/boatyard bench $(SUITE) $(if $(JSON),--json)

# --- checks --------------------------------------------------------------------------------------

.PHONY: test
test: lint test-unit test-server test-sandbox test-cli test-api test-web test-e2e ## Everything
	@echo "make test: all suites passed"

.PHONY: lint
lint: .need-cc lint-rust lint-web ## Format, clippy, tidy, biome, types

.PHONY: lint-rust
lint-rust: .need-cc
	$(CARGO) fmt --all --check
	$(CHECKS) $(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CHECKS) $(CARGO) xtask tidy

.PHONY: lint-web
lint-web: web/node_modules/.lock.stamp
	cd web && npm run --silent lint -- --colors=off && npm run --silent typecheck

.PHONY: fmt
fmt: web/node_modules/.lock.stamp ## Format everything
	$(CARGO) fmt --all
	cd web && npm run --silent fmt

.PHONY: test-unit
test-unit: .need-cc ## Crates without server and sandbox
	$(RUN_TESTS) --workspace --exclude boatyard-sandbox --exclude boatyard-runtime \
	  --exclude boatyard-server --exclude boatyard-store --exclude boatyard-cli

.PHONY: test-sandbox
test-sandbox: .need-cc ## Real sandboxes: as root and, from root, as an ordinary user
	$(RUN_TESTS) $(SANDBOX)

.PHONY: test-server
test-server: .need-cc .need-node .need-programs ## Database, HTTP interface, operations
	PATH="$(PROGRAMS)/usr/sbin:$(PROGRAMS)/usr/bin:$$PATH" $(RUN_TESTS) $(SERVER)

.PHONY: test-cli
test-cli: .need-cc ## The command line as transcripts
	$(RUN_TESTS) $(CLI)

.PHONY: test-api
test-api: .need-cc .need-python ## A real server, tried by a client generated from the API's description
	$(CHECKS) $(CARGO) build --locked -p boatyard-cli
	crates/server/tests/generated/run target/debug/boatyard target/schemathesis

.PHONY: test-web
test-web: web/node_modules/.lock.stamp ## The page: unit tests, and whether its types are those of the API
	cd web && npm test --silent -- --no-color
	web/check-generated

.PHONY: test-e2e
test-e2e: .need-cc .need-browser web/node_modules/.lock.stamp ## The page in a browser, against a real server
	BOATYARD_PAGE=require $(CARGO) build --locked -p boatyard-cli
	cd web && BOATYARD_BIN=$(CURDIR)/target/debug/boatyard npm run --silent e2e

.PHONY: soak
soak: .need-cc ## Thousands of kills and random cases; takes hours. TIMES= how many
	BOATYARD_SOAK=$(or $(TIMES),2000) PROPTEST_CASES=20000 $(CHECKS) $(CARGO) test --release --locked \
	  $(SANDBOX) $(SERVER) $(CLI) -p boatyard-link -p boatyard-runner -p boatyard-agent
	$(CHECKS) $(CARGO) test --release --locked -p boatyard-cli --test agents -- --ignored --test-threads 1

# --- generated files -----------------------------------------------------------------------------

.PHONY: gen
gen: .need-cc web/node_modules/.lock.stamp ## Write anew what is generated and committed
	$(CARGO) xtask gen

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
	rm -rf dist web/dist web/node_modules web/test-results web/playwright-report

# --- what the machine must have ------------------------------------------------------------------

# As root, or through sudo; without either it says what to install.
define install
	as=""; if [ "$$(id -u)" != 0 ]; then as="sudo"; \
	  command -v sudo >/dev/null || { echo "Please install, as root: apt-get install $(1)" >&2; exit 1; }; fi; \
	echo "Installing $(1)"; \
	$$as apt-get update -qq </dev/null && \
	DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends $(1) </dev/null
endef

.PHONY: .need-cc
.need-cc:
	@command -v $(CARGO) >/dev/null || { echo "Rust is not installed: cargo is not on the PATH." >&2; exit 1; }
	@if ! command -v cc >/dev/null || [ ! -e "$$(cc -print-file-name=libc.a)" ]; then $(call install,gcc libc6-dev); fi
	@command -v git >/dev/null || { $(call install,git); }

.PHONY: .need-python
.need-python:
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { $(call install,python3 python3-venv); }
	@command -v curl >/dev/null || { $(call install,curl); }

# A provider of sign-in runs beside the server's tests.
.PHONY: .need-node
.need-node:
	@command -v npm >/dev/null || { echo "Node 20.19 or newer with npm is not installed." >&2; exit 1; }

# A proxy before the server and an authority of certificates, for the tests of the documents'
# examples: unpacked beside the build, so that no service is started. Without them, those tests say
# that they pass over.
PROGRAMS := $(CURDIR)/target/programs
.PHONY: .need-programs
.need-programs:
	@[ -e $(PROGRAMS)/.stamp ] || { \
	  echo "Fetching nginx, caddy and pebble for the tests"; \
	  mkdir -p $(PROGRAMS)/debs && cd $(PROGRAMS)/debs && \
	  { apt-get download -qq nginx caddy pebble </dev/null 2>/dev/null || { \
	      as=""; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
	      $$as apt-get update -qq </dev/null && apt-get download -qq nginx caddy pebble </dev/null; }; } && \
	  for deb in *.deb; do dpkg -x "$$deb" $(PROGRAMS); done && touch $(PROGRAMS)/.stamp; } || \
	  echo "They can't be had; the tests that need them pass over." >&2

.PHONY: .need-browser
.need-browser:
	@command -v chromium >/dev/null || [ -n "$${BOATYARD_CHROMIUM:-}" ] || { $(call install,chromium fonts-dejavu-core); }

# The page's packages, when the lock is another than the one that they were installed by; the copy
# of the lock tells crates/page/build.rs the same.
web/node_modules/.lock.stamp: web/package-lock.json
	@command -v npm >/dev/null || { echo "Node 20.19 or newer with npm is not installed." >&2; exit 1; }
	cd web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	cp web/package-lock.json $@
