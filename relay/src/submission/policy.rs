//! May you: what a username may send as.
//!
//! Promises: default deny. What is not listed for the username is refused, and the refusal names
//! the field, the value and the SendingDomain setting that would allow it.

use postrider_crds::{
    DomainName, Mailbox,
    relay_config::{Admission, Intake, Sender},
};

use super::{headers::Headers, refusal::Refusal};
use crate::{
    config::{Domain, Settings},
    mail::ReturnPath,
    telemetry::RejectReason,
};

/// Whether `username` may use the envelope sender (RFC 6409 §6.1): the null one, or an address in
/// a domain, or its return path domain, that it may send as.
pub(super) fn envelope_sender(
    settings: &Settings,
    username: &str,
    from: &ReturnPath,
) -> Result<(), Refusal> {
    let ReturnPath::Mailbox(mailbox) = from else {
        return Ok(());
    };
    let domain = mailbox.domain();
    let own = settings.domain(domain);
    let is_own = own.and_then(|own| sender(own, username)).is_some();
    // Looking through all domains is left to the rare sender at a return path domain.
    let mut known = settings.domains_of(username);
    if is_own || known.any(|known| known.entry.return_path == *domain) {
        return Ok(());
    }
    Err(forbidden(format!(
        "MAIL FROM <{mailbox}>: {username:?} may not send as {domain}; {REMEDY}"
    )))
}

/// The domain the message is sent as, when `username` may send it (RFC 6409 §6.1). Its mail may be
/// held; a domain that refuses mail for now gives 450 4.7.1 with its reason, one that is being
/// deleted or has left this pool 550 5.7.1.
pub fn authorise<'a>(
    settings: &'a Settings,
    username: &str,
    headers: &Headers,
) -> Result<&'a Domain, Refusal> {
    let mut sent_as: Option<&Domain> = None;
    for address in &headers.from {
        let domain = permitted(settings, username, address)?;
        match sent_as {
            Some(first) if first.entry.domain != domain.entry.domain => {
                return Err(forbidden(format!(
                    "From header holds addresses of {} and {}; use one domain",
                    first.entry.domain, domain.entry.domain
                )));
            }
            _ => sent_as = Some(domain),
        }
    }
    let Some(domain) = sent_as else {
        return Err(forbidden(
            "From header holds no address; add one".to_owned(),
        ));
    };
    match (domain.entry.intake, domain.entry.admission) {
        (Intake::Closed, _) => Err(forbidden(format!(
            "From domain {} takes no more mail here: its SendingDomain is being deleted or names another RelayPool",
            domain.entry.domain
        ))),
        (Intake::Open, Admission::Send | Admission::Hold) => Ok(domain),
        (Intake::Open, Admission::Reject) => {
            Err(unverified(&domain.entry.domain, &domain.entry.reason))
        }
    }
}

/// The way out of most refusals here.
const REMEDY: &str = "list it under spec.senders of the SendingDomain";

fn permitted<'a>(
    settings: &'a Settings,
    username: &str,
    address: &Mailbox,
) -> Result<&'a Domain, Refusal> {
    let name = address.domain();
    let domain = settings.domain(name);
    let found = domain.and_then(|domain| Some((domain, sender(domain, username)?)));
    let Some((domain, sender)) = found else {
        return Err(forbidden(format!(
            "From <{address}>: {username:?} may not send as {name}; {REMEDY}"
        )));
    };
    let folded = address.folded();
    let listed = |allowed: &Mailbox| allowed.folded() == folded;
    if sender.addresses.is_empty() || sender.addresses.iter().any(listed) {
        return Ok(domain);
    }
    Err(forbidden(format!(
        "From <{address}>: {username:?} may send as {name} only from listed addresses; add this one under spec.senders[].addresses of the SendingDomain"
    )))
}

/// What the domain lists for `username`.
fn sender<'a>(domain: &'a Domain, username: &str) -> Option<&'a Sender> {
    let mut senders = domain.entry.senders.iter();
    senders.find(|sender| sender.username == username)
}

fn forbidden(text: String) -> Refusal {
    Refusal::new(RejectReason::Sender, 550, (5, 7, 1), text)
}

fn unverified(domain: &DomainName, reason: &str) -> Refusal {
    let reason = match reason {
        "" => "see the conditions of its SendingDomain",
        reason => reason,
    };
    let text = format!("From domain {domain} takes no mail while unverified: {reason}");
    Refusal::new(RejectReason::Unverified, 450, (4, 7, 1), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn verdict(username: &str, from: &str) -> Result<String, String> {
        let settings = sample::settings();
        let headers = Headers::read(format!("From: {from}\r\n\r\n").as_bytes()).unwrap();
        authorise(&settings, username, &headers)
            .map(|domain| domain.entry.domain.to_string())
            .map_err(|refusal| refusal.reply.to_string())
    }

    #[test]
    fn only_listed_senders_may() {
        assert_eq!(verdict("ann", "a@example.com"), Ok("example.com".into()));
        assert_eq!(
            verdict("ann", "a@example.com, b@EXAMPLE.com"),
            Ok("example.com".into())
        );
        assert_eq!(verdict("bob", "Bob@example.com"), Ok("example.com".into()));
        assert_eq!(verdict("ann", "a@held.example"), Ok("held.example".into()));
        for (username, from, parts) in [
            ("ann", "a@example.org", ["550 5.7.1", "example.org"]),
            ("ann", "a@sub.example.com", ["550 5.7.1", "sub.example.com"]),
            ("eve", "a@example.com", ["550 5.7.1", "eve"]),
            ("bob", "ann@example.com", ["550 5.7.1", "addresses"]),
            (
                "ann",
                "a@example.com, b@held.example",
                ["550 5.7.1", "one domain"],
            ),
            (
                "ann",
                "a@example.com, b@example.org",
                ["550 5.7.1", "example.org"],
            ),
            (
                "ann",
                "a@closed.example",
                ["450 4.7.1", "DKIM record is missing"],
            ),
            (
                "ann",
                "a@leaving.example",
                ["550 5.7.1", "leaving.example takes no more mail"],
            ),
        ] {
            let error = verdict(username, from).expect_err(from);
            for part in parts {
                assert!(error.contains(part), "{from}: {error}");
            }
        }
    }

    #[test]
    fn the_envelope_sender_is_null_or_of_an_own_domain() {
        let settings = sample::settings();
        let path = |text: &str| match text {
            "" => ReturnPath::Null,
            text => ReturnPath::Mailbox(text.parse().unwrap()),
        };
        for good in [
            "",
            "x@example.com",
            "x@bounce.example.com",
            "x@held.example",
        ] {
            assert_eq!(
                envelope_sender(&settings, "ann", &path(good)),
                Ok(()),
                "{good}"
            );
        }
        for bad in ["x@example.org", "x@sub.example.com"] {
            let refusal = envelope_sender(&settings, "ann", &path(bad)).expect_err(bad);
            assert!(refusal.reply.text.contains(bad), "{}", refusal.reply);
        }
        assert!(envelope_sender(&settings, "eve", &path("x@example.com")).is_err());
    }
}
