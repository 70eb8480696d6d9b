//! What the cluster promises, one claim a file.
//!
//! They are about the cluster this crate makes, so they do not run against one of the user's. They
//! share the one that `E2E_STATE_DIR` names, each in a namespace of its own. One command brings it
//! up, runs them and takes it down:
//! `cargo run -p postrider-e2e --bin e2e-cluster -- run -- \
//!  cargo test -p postrider-e2e --test cluster`

#[cfg(test)]
mod support;

mod api_server_starts_alone_and_leaves_nothing;
mod bridge_keeps_its_hardware_address;
mod containerfile_becomes_a_running_image;
mod killed_kubelet_comes_back_to_its_pods;
mod name_of_no_zone_does_not_exist;
mod node_is_ready;
mod pod_reaches_receivers_and_nothing_outside;
mod pod_security_is_enforced;
mod pod_sees_zone_changes;
mod service_is_reached_from_pod_and_machine;
mod small_volume_fills_up;
mod volume_outlives_its_pod;
