//! An operator puts records into DNS and takes them out again: the operator's own program, a real
//! API server, a real BIND that takes updates, the definition of external-dns's DNSEndpoint.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed step fails the test"
)]

mod external_dns_gets_what_is_ours;
mod updates_touch_only_what_is_ours;
mod world;
