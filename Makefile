# Everything here needs git, make, Rust, Go, Python and the package registries, nothing else. What is
# dear to make (Kubernetes, Helm, CoreDNS, Debian packages) is kept by version in
# $XDG_CACHE_HOME/postrider, outside the checkout.

CRDS := charts/postrider/files/crds
REFERENCE := docs/api.md
IMAGE_TARGET := x86_64-unknown-linux-gnu
CLUSTER := cargo run --quiet -p postrider-e2e --bin e2e-cluster --
DEMO := cargo run --quiet -p postrider-e2e --bin e2e-demo --
# The tests on the cluster of e2e-cluster, and those beside them that have servers of their own.
SUITES := --test cluster --test mail
BESIDE := --test api_server --test chart_golden --test command --test peers_postfix \
  --test peers_verdicts --test publishing --test verdicts_agree
# Where the programs lie that the tests were built with.
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug

# A release build, and where it lies.
BENCH := $(or $(CARGO_TARGET_DIR),target)/release/postrider-bench

# The judge of dependencies, and where it is kept.
DENY_VERSION := 0.20.2
DENY := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/postrider/bin/cargo-deny-$(DENY_VERSION)/bin/cargo-deny

.PHONY: help demo test check durability lint deny crds images bench bench-domains clean

help:
	@echo 'make demo    a local Kubernetes, Postrider on it, 20 messages followed to their end'
	@echo 'make test    everything: check, the tests on a real cluster, and the demo'
	@echo 'make check   format, lints, unit tests; the inner loop'
	@echo 'make durability  every fault at every call, 300 kills; what docs/durability.md rests on'
	@echo 'make lint    format and lints only'
	@echo 'make deny    licences, sources and doubles of dependencies; for changes of Cargo.lock'
	@echo 'make crds    write the custom resource definitions into the chart, and docs/api.md'
	@echo 'make images  link the programs of the images statically'
	@echo 'make bench   measure the relay and its peers, an hour; QUICK=1: against Postfix, 5 minutes'
	@echo 'make bench-domains  measure the operator with 10,000 SendingDomains, half an hour'
	@echo 'make clean   take down what demo and test left up'

# Shows the main job from end to end and leaves the cluster up.
demo:
	cargo build --quiet -p postrider-e2e --bins
	$(DEMO) run

# What CI runs: all tests, and the demo as the test of the whole. A panic here tells what was awaited
# and what was seen; a backtrace would only push that out of sight. All is built in one way, as parts
# of the workspace, so that no library is compiled twice.
test: export RUST_BACKTRACE = 0
test: check
	cargo test --quiet --workspace --no-run $(SUITES) $(BESIDE)
	@echo cargo test --workspace $(BESIDE), told when it is done, beside:
	@log=$$(mktemp); trap 'rm -f $$log' EXIT; \
	cargo test --workspace $(BESIDE) -- --test-threads 4 >$$log 2>&1 & beside=$$!; \
	$(BUILT)/e2e-cluster run -- cargo test --workspace $(SUITES) -- --test-threads 4; suites=$$?; \
	wait $$beside; beside=$$?; \
	if [ $$beside = 0 ]; then grep '^test ' $$log; else cat $$log; fi; \
	exit $$((suites | beside))
	$(BUILT)/e2e-demo run
	$(BUILT)/e2e-demo clean

# The inner loop.
check: lint
	cargo test --workspace --quiet

# The tests behind docs/durability.md, with all that the inner loop leaves out.
durability: export POSTRIDER_THOROUGH = 1
durability: export RUST_LOG = error
durability:
	cargo test -p postrider-relay --lib custody::tests:: -- --nocapture
	cargo test -p postrider-relay --test claims no_accepted_message_is_lost -- --nocapture

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(SUITES) $(BESIDE) --bench domains --quiet -- -D warnings

# Builds the judge on its first run, some minutes.
deny: $(DENY)
	$(DENY) check --hide-inclusion-graph bans licenses sources

$(DENY):
	cargo install --quiet cargo-deny --version $(DENY_VERSION) --locked \
	  --root $(patsubst %/bin/cargo-deny,%,$@)

crds:
	cargo run --quiet -p postrider-crds --bin crdgen -- $(CRDS) $(REFERENCE)

# Static programs for the Containerfiles, in target/$(IMAGE_TARGET)/image.
images:
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
	  cargo build --profile image --target $(IMAGE_TARGET) \
	  -p postrider-operator -p postrider-relay -p postrider-cli

# Writes docs/benchmark.md and target/bench/summary.json; with QUICK=1 the latter only.
bench:
	cargo build --quiet --release -p postrider-relay -p postrider-bench
	$(BENCH) $(if $(QUICK),quick,full)

# The operator with many domains, as root: prints rows for docs/benchmark.md, writes
# target/bench/domains.json. ARGS='--domains 1000 --fresh 0' makes it shorter; '--help' has them all.
bench-domains:
	cargo bench --quiet --profile dev --workspace --bench domains -- $(ARGS)

clean:
	$(DEMO) clean
	$(CLUSTER) down
