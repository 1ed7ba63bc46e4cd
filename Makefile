# Hothouse. `make help` lists what there is.

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
FEATURES := --features hothouse-guest/program,hothouse-cli/otel

# What the guest is built for, so that it starts fast; without it the guest is as good, but slower to start.
MUSL := $(shell uname -m)-unknown-linux-musl

.PHONY: help musl build demo test check abuse chaos soak fuzz beds bench fmt deny install

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

musl:
	@if command -v rustup > /dev/null && ! rustup target list --installed | grep -qx $(MUSL); then \
	  rustup target add $(MUSL) || echo "$(MUSL) could not be had: sandboxes will start more slowly"; fi

build: musl ## the release binary, target/release/hothouse
	$(CARGO) build --release --locked -p hothouse-cli

demo: build ## build, then score 40 right and 40 wrong or hostile solutions, each in its own sandbox
	HOTHOUSE=$(TARGET)/release/hothouse tests/demo

test: musl ## all crates' tests and the demo; names what was skipped
	tests/run

check: musl ## format, lints, documentation, rules of the house; no test of behaviour
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) --locked -- -D warnings
	$(CARGO) clippy -p hothouse-cli --test abuse --test chaos --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps $(FEATURES) --locked --document-private-items
	$(CARGO) test --locked -p hothouse-cli --test house

abuse: musl ## the abuse matrix of SPECIFICATION.md, attack by attack
	$(CARGO) test --locked -p hothouse-cli --test abuse -- $(CASES)

chaos: musl ## faults on purpose, long: at most 20 minutes; ROUNDS=300 kills of the server, SEED=N repeats, PARTS="server disk"
	ROUNDS=$(ROUNDS) SEED=$(SEED) $(CARGO) test --locked -p hothouse-cli --test chaos -- --long $(PARTS)

soak: build ## 100,000 sandboxes come and go as root, as a user with cgroups and without; CHURN=N for another number
	HOTHOUSE_PROGRAM=$(abspath $(TARGET))/release/hothouse CHURN=$(or $(CHURN),100000) \
	  $(CARGO) test --locked -p hothouse-cli --test abuse -- T32

fuzz: ## hostile bytes, guided by coverage, for every decoder: TIME=60 seconds each
	TIME=$(TIME) fuzz/run

beds: ## the limits again on a pure cgroup v2 machine, under emulation (fetches packages with apt)
	$(CARGO) build --locked -p hothouse-cli
	tests/beds/cgroup2 $(TARGET)/debug/hothouse

bench: build ## every bench, with floor and installed peers; JSON in target/bench/; TASKS=FILE for that of score, OPENENV=PYTHON for the peer of steps
	mkdir -p $(TARGET)/bench
	set -e; for name in create claim exec session context dial fork image adopt growth density; do \
	  $(TARGET)/release/hothouse bench $$name --json $(TARGET)/bench/$$name.json; done
	$(TARGET)/release/hothouse bench steps $(if $(OPENENV),--reference-python $(OPENENV) --python-client) \
	  --json $(TARGET)/bench/steps.json
	@if [ -z "$(TASKS)" ]; then echo "bench score: not run; name tasks in HumanEval's shape: make bench TASKS=FILE"; else \
	  $(TARGET)/release/hothouse bench score --tasks $(TASKS) --json $(TARGET)/bench/score.json; fi

fmt: ## format the code
	$(CARGO) fmt --all

deny: ## let cargo-deny judge licences, sources and bans (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny"; exit 1; }
	$(CARGO) deny --locked check bans licenses sources

install: musl ## install hothouse into ~/.cargo/bin
	$(CARGO) install --locked --path crates/cli
