# What can be done in this repository.
IMAGE_TARGET := x86_64-unknown-linux-gnu
CLUSTER := cargo run --quiet -p postrider-e2e --bin e2e-cluster --
.PHONY: check test lint crds images-binaries clean

# Format, lints, unit tests, generated files: the inner loop.
check: lint
	cargo test --workspace --quiet
	cargo run --quiet -p postrider-crds --bin crdgen -- --check charts/postrider/files/crds

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features postrider-e2e/cluster --quiet -- -D warnings

# Everything, on a real cluster.
test: check
	$(CLUSTER) run -- cargo test -p postrider-e2e --features cluster

# Writes the generated custom resource definitions.
crds:
	cargo run --quiet -p postrider-crds --bin crdgen -- charts/postrider/files/crds

# Static programs for the Containerfiles.
images-binaries:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile image --target $(IMAGE_TARGET) \
	  -p postrider-operator -p postrider-relay -p postrider-cli

clean:
	$(CLUSTER) down
	cargo clean
