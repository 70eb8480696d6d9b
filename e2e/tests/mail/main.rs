//! What the installed product promises, one claim a file.
//!
//! On the cluster that `E2E_STATE_DIR` names: the chart is installed once, each claim has a
//! namespace, a zone, a pool and receivers of its own, and they run side by side. One command
//! brings the cluster up, runs them and takes it down:
//! `cargo run -p postrider-e2e --bin e2e-cluster -- run -- \
//!  cargo test -p postrider-e2e --test mail`

#![cfg(test)]

mod definitions;
mod exchange;
mod gate;
mod kstatus;
mod operator;
mod pods;
mod recording;
mod support;

mod a_pod_that_cannot_run_is_told;
mod a_rotation_under_load_breaks_no_signature;
mod a_silent_resolver_stops_no_verified_mail;
mod an_operator_at_rest_writes_nothing;
mod deleted_namespace_is_gone;
mod each_fault_is_named_until_it_is_cured;
mod fresh_objects_are_never_reported_done;
mod killed_relay_loses_nothing;
mod orders_reach_the_queue_of_every_pod;
mod refused_configuration_leaves_the_old_in_force;
mod relay_pods_are_confined;
mod restarted_operator_takes_nothing_back;
mod verified_domain_delivers_signed_mail;
