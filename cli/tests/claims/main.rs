//! What the `postrider` command claims, each claim in a file of its own, shown with real name
//! servers and a real API server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod a_rotation_is_followed_to_its_end;
mod manifests_are_checked_against_live_dns;
mod records_are_what_their_readers_take;
mod support;
