//! What the world's DNS says about a sending domain, judged as a receiver would judge it.
//!
//! [`resolver`] is the port that asks; [`spf`], [`dkim`], [`dmarc`], [`return_path`], [`reverse`],
//! [`mta_sts`] and [`tls_rpt`] each put wanted records beside what is published and answer with a
//! [`Finding`] each.
//!
//! Promises: an answer that did not come (timeout, SERVFAIL, REFUSED) is [`RecordState::Unknown`],
//! never "missing". Messages depend on the facts only, so the same facts give the same bytes.

use postrider_crds::{RecordState, condition::reasons};

pub mod authority;
pub mod confirm;
pub mod dkim;
pub mod dmarc;
mod exchanges;
mod fields;
mod memo;
pub mod mta_sts;
pub mod resolver;
pub mod return_path;
pub mod reverse;
pub mod shared;
pub mod spf;
mod tags;
pub mod tls_rpt;

#[cfg(test)]
pub(crate) mod fake;

pub use authority::Sight;
pub use exchanges::Addressee;
pub use mta_sts::{HttpsPolicyHosts, PolicyHosts};
pub use resolver::{Answer, Failure, HickoryResolver, Resolver};
pub use shared::SharedResolver;

/// Longest published text that is repeated in a status, in characters: room for an RSA-4096 key,
/// not for whatever a stranger publishes.
const MAX_SEEN: usize = 1_024;

/// One wanted record beside what is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How the two compare.
    pub state: RecordState,
    /// The condition reason (one of [`reasons`]).
    pub reason: &'static str,
    /// What is published, as text; several records are joined by `" | "`.
    pub seen: Option<String>,
    /// What is wrong and what to do about it; may hold a remark on a verified record.
    pub message: String,
    /// A better text to publish than the plain one, because it keeps what is there already.
    pub wanted: Option<String>,
    /// Where the record was found, when that is not the name first asked for.
    pub found_at: Option<String>,
}

impl Finding {
    /// The record does its duty. `remark` may be empty.
    pub(crate) fn verified(seen: &str, remark: String) -> Self {
        Self {
            state: RecordState::Verified,
            reason: reasons::VERIFIED,
            seen: Some(bounded(seen)),
            message: remark,
            wanted: None,
            found_at: None,
        }
    }

    /// Nothing is published.
    pub(crate) fn missing(message: String) -> Self {
        Self {
            state: RecordState::Missing,
            reason: reasons::RECORD_MISSING,
            seen: None,
            message,
            wanted: None,
            found_at: None,
        }
    }

    /// Something else is published; `reason` says in which way it differs.
    pub(crate) fn mismatch(reason: &'static str, seen: &str, message: String) -> Self {
        Self {
            state: RecordState::Mismatch,
            reason,
            seen: Some(bounded(seen)),
            message,
            wanted: None,
            found_at: None,
        }
    }

    /// Several records are published where one is allowed.
    pub(crate) fn conflict(seen: &[String], message: String) -> Self {
        // Servers rotate the order of records; the status must not change with it.
        let mut sorted = seen.to_vec();
        sorted.sort();
        Self {
            state: RecordState::Conflict,
            reason: reasons::RECORD_CONFLICT,
            seen: Some(bounded(&sorted.join(" | "))),
            message,
            wanted: None,
            found_at: None,
        }
    }

    /// The same finding, with `wanted` as the text to publish.
    pub(crate) fn wanting(mut self, wanted: &str) -> Self {
        self.wanted = Some(bounded(wanted));
        self
    }

    /// The same finding, about a record found at `name`.
    pub(crate) fn found_at(mut self, name: &str) -> Self {
        self.found_at = Some(name.to_owned());
        self
    }

    /// Some name servers have the record and others do not, or not yet; `problem` names one.
    pub(crate) fn spreading(seen: Option<String>, problem: &str) -> Self {
        Self {
            state: RecordState::Unknown,
            reason: reasons::WAITING_FOR_PROPAGATION,
            seen,
            message: format!("{problem}, while another name server has the record"),
            wanted: None,
            found_at: None,
        }
    }

    /// DNS gave no answer to the question about `name`.
    pub(crate) fn unknown(name: &str, failure: &Failure) -> Self {
        Self {
            state: RecordState::Unknown,
            reason: reasons::DNS_UNAVAILABLE,
            seen: None,
            message: format!("the lookup of {name} failed: {failure}"),
            wanted: None,
            found_at: None,
        }
    }
}

/// `text` without control characters, cut to [`MAX_SEEN`] characters.
fn bounded(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(MAX_SEEN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().count() > MAX_SEEN {
        out.push_str("...");
    }
    out
}
