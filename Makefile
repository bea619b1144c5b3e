# What a newcomer and the continuous integration both run. `make` alone lists the targets.
#
# Everything is built into one target directory, and the host in the dev profile: it builds fastest, Cargo.toml optimises
# the WebAssembly compiler in it, and `make test` and `make run` then share one build. Plugins are built optimised.

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR ?= $(CURDIR)/target

SETUP := host/cli/tests/setup
DIST := host/cli/dist
QCHOST := $(CARGO_TARGET_DIR)/debug/qchost

# The bundled plugins, and the ones that exist only for the end-to-end tests. Each directory is one plugin.
PLUGINS := $(sort $(dir $(wildcard plugins/*/Cargo.toml)))
TEST_PLUGINS := $(sort $(dir $(wildcard host/cli/tests/plugins/*/Cargo.toml)))
# Workspaces beside the main one.
WORKSPACES := host/cli/tests/plugins host/fuzz

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

.PHONY: setup
setup: ## install what building and running needs: a C compiler, the WebAssembly target
	@command -v cargo >/dev/null || { echo "setup: no cargo on PATH; install Rust 1.95 or later with rustup" >&2; exit 1; }
	@command -v cc >/dev/null || $(SETUP)/debian.sh gcc libc6-dev
	@$(SETUP)/wasm.sh

.PHONY: setup-test
setup-test: setup ## install what the tests need besides in .venv: three Python environments, MCP's conformance suite
	@$(SETUP)/python.sh
	@$(SETUP)/conformance.sh

.PHONY: setup-lint
setup-lint: setup ## install what linting needs besides: rustfmt and clippy
	@cargo fmt --version >/dev/null 2>&1 || { echo "setup: rustup component add rustfmt"; rustup component add rustfmt; }
	@cargo clippy --version >/dev/null 2>&1 || { echo "setup: rustup component add clippy"; rustup component add clippy; }

.PHONY: run
run: setup ## build the host and the strategy-lab plugin, and run the demonstration
	cargo build --locked -p qchost
	$(QCHOST) plugin build plugins/strategy-lab
	$(QCHOST) demo

# Below PREFIX, in DESTDIR where a package is made of it. The build is the one that is measured: release, and not debug.
PREFIX ?= /usr/local
RELEASE := $(CARGO_TARGET_DIR)/release/qchost

.PHONY: install
install: setup ## build the release, and install it below PREFIX (/usr/local) with manual, completions and unit
	cargo build --locked --release -p qchost
	"$(DIST)/stage.sh" "$(RELEASE)" "$(DESTDIR)$(PREFIX)" "$(PREFIX)"

TOOLS := $(abspath $(CARGO_TARGET_DIR))/tools
DISTRIBUTED := $(abspath $(CARGO_TARGET_DIR))/dist

.PHONY: setup-dist
setup-dist: setup ## install what packaging needs besides: Python, git, and cargo-deb in target/tools
	@command -v python3 >/dev/null || $(SETUP)/debian.sh python3
	@command -v git >/dev/null || $(SETUP)/debian.sh git
	@command -v objdump >/dev/null || $(SETUP)/debian.sh binutils
	@[ -x $(TOOLS)/bin/cargo-deb ] || cargo install --locked --root $(TOOLS) cargo-deb@3.8.0

.PHONY: dist
dist: setup-dist ## build a reproducible archive and Debian package, with licences and bill of materials, in target/dist
	PATH="$(TOOLS)/bin:$$PATH" "$(DIST)/dist.sh" "$(DISTRIBUTED)"

.PHONY: dist-check
dist-check: setup-dist ## build all of `make dist` twice in different folders, and compare the bytes
	PATH="$(TOOLS)/bin:$$PATH" "$(DIST)/check.sh" "$(abspath $(CARGO_TARGET_DIR))/dist-check"

# The tests are compiled first: that builds the host with the features of the whole workspace, and the same host then
# builds the plugins that the tests load. cargo-nextest does not run the examples in the documentation.
# Most of them wait for processes and time limits, so more of them are run at once than there are processors, if each is a
# process of its own.
TEST_THREADS := $(shell expr $$(nproc) \* 2)
LEFT_OUT := $(abspath $(CARGO_TARGET_DIR))/tmp/left-out

.PHONY: test
test: export QCHOST_LEFT_OUT := $(LEFT_OUT)
test: setup-test ## build everything and run every test, with cargo-nextest where it is installed
	cargo test --locked --workspace --no-run
	for plugin in $(PLUGINS) $(TEST_PLUGINS); do $(QCHOST) plugin build "$$plugin"; done
	@rm -f $(LEFT_OUT)
	if command -v cargo-nextest >/dev/null; then \
		cargo nextest run --locked --workspace --test-threads $(TEST_THREADS); cargo test --locked --workspace --doc; \
	else \
		cargo test --locked --workspace; \
	fi
	@if [ -s $(LEFT_OUT) ]; then \
		sort -u $(LEFT_OUT); \
		echo "$$(sort -u $(LEFT_OUT) | wc -l) tests were left out; run as root, with what they need, to include them"; \
	fi

# No test may depend on the priority, the time zone, the locale or the umask of the user who runs it, nor on root. The tests
# here start processes, write files, act as other users or compare whole outputs. Cargo itself stays root.
ifeq ($(shell id -u),0)
UNPRIVILEGED := --config 'target."cfg(unix)".runner = ["$(CURDIR)/$(SETUP)/unprivileged.sh", "$(abspath $(CARGO_TARGET_DIR))/tmp"]'
endif
AGAIN := nice -n 5 cargo test --locked --workspace $(UNPRIVILEGED)

.PHONY: test-again
test-again: ## after `make test`, run a part of the tests again: as no root, niced, in another time zone, locale and umask
	unset LC_ALL QCHOST_REQUIRE_ROOT; export TZ=Pacific/Auckland LANG=C; umask 077; \
	$(AGAIN) --bin qchost; \
	$(AGAIN) --test compiling --test cache --test watch --test ledger --test files; \
	$(AGAIN) --test e2e -- people:: discovery:: records:: snapshots::

.PHONY: lint
lint: setup-lint ## check formatting, lints, documentation and the words in it
	$(SETUP)/words.sh --self-test
	$(SETUP)/words.sh
	cargo fmt --all --check
	for workspace in $(WORKSPACES); do cargo fmt --all --check --manifest-path "$$workspace/Cargo.toml"; done
	cargo clippy --locked --workspace --all-targets --features qchost-runtime/bench -- -D warnings
	cargo clippy --locked --workspace --manifest-path host/cli/tests/plugins/Cargo.toml -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

.PHONY: audit
audit: ## check licences, versions, sources and known vulnerabilities of the dependencies; needs cargo-deny and a network
	@command -v cargo-deny >/dev/null || { echo "audit: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny --locked check

# One after the other: each wants the machine for itself. The host and the runtime are named together, so that their
# dependencies are built once. What is measured of the host as a process is measured of a release, which is put aside
# since both profiles write to one place. The rows of a former run are removed first, so that none stands for what was not
# measured. The report is made at the end, also when a strict bound does not hold: then it says so, and the target fails
# after it.
SHIPPED := $(abspath $(CARGO_TARGET_DIR))/release/qchost-shipped
BENCH := cargo bench --locked -p qchost-runtime -p qchost --features qchost-runtime/bench
STRICT := cargo test --locked --profile bench -p qchost-runtime -p qchost --features qchost-runtime/bench

.PHONY: bench
bench: setup-test ## measure the host, beside its floors in the same run, and write host/cli/BENCHMARKS.md
	cargo build --locked --release -p qchost
	cp -f $(CARGO_TARGET_DIR)/release/qchost $(SHIPPED)
	rm -rf $(CARGO_TARGET_DIR)/tmp/bench
	$(BENCH) --no-run --bench invoke --bench bridge --bench parked --bench calls --bench host --bench report
	for plugin in $(PLUGINS) $(TEST_PLUGINS); do $(CARGO_TARGET_DIR)/release/qchost plugin build "$$plugin"; done
	for part in invoke bridge parked calls host; do QCHOST_SHIPPED=$(SHIPPED) $(BENCH) --bench "$$part"; done
	cargo bench --locked -p qchost-policy -p qchost-audit -p qchost-ledger -p qchost-gate
	held=0; QCHOST_STRICT=1 $(STRICT) --no-fail-fast --test hostile --test e2e -- --nocapture a_host_with_hostile revocation:: || held=$$?; QCHOST_STRICT=1 $(STRICT) --test e2e -- --nocapture --test-threads 1 broken:: || held=$$?; $(BENCH) --bench report; exit $$held

.PHONY: fuzz
fuzz: setup ## fuzz whatever reads foreign bytes, FUZZ_SECONDS (600) a target; needs a C++ compiler
	host/fuzz/fuzz.sh

.PHONY: soak
soak: setup ## run the long forms of the tests: hundreds of kills, losses of power, reloads and hostile plugins
	QCHOST_RUNS=$${QCHOST_RUNS:-200} cargo test --locked -p qchost-gate --test crash
	QCHOST_CRASHES=$${QCHOST_RUNS:-200} cargo test --locked -p qchost-ledger
	QCHOST_KILLS=$${QCHOST_RUNS:-200} cargo test --locked -p qchost-audit
	QCHOST_ROUNDS=$${QCHOST_ROUNDS:-20} cargo test --locked -p qchost-runtime --test hostile -- --nocapture
	QCHOST_RELOADS=$${QCHOST_RELOADS:-100} cargo test --locked -p qchost --test e2e load:: -- --nocapture
