# Everything here needs only git, make, Rust, Go, Python and the package registries.
# Binaries that are dear to make (Kubernetes, Helm, CoreDNS, Debian packages) are kept by version in
# $XDG_CACHE_HOME/postrider, outside the checkout.

CRDS := charts/postrider/files/crds
CLUSTER := target/cluster

.PHONY: help demo test check lint crds images clean

help:
	@echo 'make demo    a local Kubernetes, Postrider on it, 20 messages followed to their end'
	@echo 'make test    everything: check, and the tests on a real cluster'
	@echo 'make check   format, lints, unit tests; the inner loop'
	@echo 'make lint    format and lints only'
	@echo 'make crds    write the custom resource definitions into the chart'
	@echo 'make images  link the programs of the images statically'
	@echo 'make clean   take down what demo and test left up'

demo:
	cargo build --quiet -p postrider-e2e --bins
	cargo run --quiet -p postrider-e2e --bin e2e-demo -- run

test: check
	cargo build --quiet -p postrider-e2e --bins
	cargo run --quiet -p postrider-e2e --bin e2e-cluster -- --dir $(CLUSTER) run -- \
	  cargo test -p postrider-e2e --features cluster -- --test-threads=2

check: lint
	cargo run --quiet -p postrider-crds --bin crdgen -- --check $(CRDS)
	cargo test --workspace

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings

crds:
	cargo run --quiet -p postrider-crds --bin crdgen -- $(CRDS)

images:
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS='-C target-feature=+crt-static' \
	  cargo build --profile image --target x86_64-unknown-linux-gnu \
	  -p postrider-operator -p postrider-relay -p postrider-cli

clean:
	cargo run --quiet -p postrider-e2e --bin e2e-demo -- clean
	cargo run --quiet -p postrider-e2e --bin e2e-cluster -- --dir $(CLUSTER) down
