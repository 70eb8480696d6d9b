//! What the operator says of a published record is what independent judges make of mail that
//! depends on it: good, broken and odd zones, served by a real name server.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod dkim_agrees_with_dkimpy;
mod dmarc_agrees_with_checkdmarc;
mod mta_sts_agrees_with_checkdmarc;
mod names_agree_with_checkdmarc;
mod spf_agrees_with_pyspf;
mod support;
mod tls_rpt_agrees_with_checkdmarc;
