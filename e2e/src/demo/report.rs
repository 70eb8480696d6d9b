//! The demo's result: for each message its stages, and what was verified where it arrived.

use std::{net::SocketAddr, path::Path};

use super::{journal::Journal, messages::Sent, world::Arrived};
use crate::peers::{Case, Outcome, Verdict};

/// An arrived message with the judges' verdict.
#[derive(Debug)]
pub(crate) struct Judged {
    subject: String,
    arrived: Arrived,
    verdict: Verdict,
}

/// The questions to the judges, one for each arrived message.
pub(crate) fn cases(arrived: &[Arrived], nameserver: SocketAddr) -> Vec<Case> {
    let case = |arrived: &Arrived| match arrived {
        Arrived::Mailbox(received) => Some(received.case(nameserver)),
        Arrived::Greylist(transaction) => transaction.case(nameserver),
    };
    arrived.iter().filter_map(case).collect()
}

/// The arrived messages beside their verdicts, which come in the same order.
pub(crate) fn judged(arrived: Vec<Arrived>, verdicts: Vec<Verdict>) -> Vec<Judged> {
    let judged = arrived
        .into_iter()
        .zip(verdicts)
        .map(|(arrived, verdict)| Judged {
            subject: subject(arrived.path()),
            arrived,
            verdict,
        });
    judged.collect()
}

/// Prints the report. True: all is as it should be.
pub(crate) fn print(sent: &[Sent], journal: &Journal, judged: &[Judged]) -> bool {
    println!("\nEach message, its stages, and what its receiver verified:\n");
    let mut good = true;
    for one in sent {
        let fate = one.has_met_its_fate(journal);
        let there: Vec<&Judged> = judged
            .iter()
            .filter(|j| j.subject == one.message.subject)
            .collect();
        let arrived_rightly = there.len() == usize::from(one.message.fate.arrives());
        let verified = there.iter().all(|judged| judged.passes());
        let as_it_should = fate && arrived_rightly && verified;
        good &= as_it_should;
        let mark = if as_it_should { "ok " } else { "BAD" };
        println!(
            "{mark} {}  {:29} {}",
            one.id,
            one.message.to,
            journal.told(&one.id)
        );
        for judged in &there {
            println!("    {}", judged.told());
        }
        if !arrived_rightly {
            println!(
                "    arrived {} times, expected {}",
                there.len(),
                usize::from(one.message.fate.arrives())
            );
        }
    }
    good & print_notifications(sent, journal, judged)
}

/// The failures the sender was told of: each bounced message's DSN has come back, and verifies.
fn print_notifications(sent: &[Sent], journal: &Journal, judged: &[Judged]) -> bool {
    let mut good = true;
    for one in sent {
        let Some(notification) = journal.notification(&one.id) else {
            continue;
        };
        let delivered = journal
            .stages(notification)
            .iter()
            .any(|stage| stage == "delivered");
        good &= delivered;
        let mark = if delivered { "ok " } else { "BAD" };
        println!(
            "{mark} {notification}  the sender is told that {} bounced",
            one.id
        );
    }
    let reports: Vec<&Judged> = judged
        .iter()
        .filter(|j| j.arrived.is_notification())
        .collect();
    for report in &reports {
        good &= report.passes();
        println!("    {}", report.told());
    }
    good
}

impl Judged {
    /// Both signatures, SPF and DMARC pass, and OpenDKIM agrees where it was asked. SPF of a
    /// notification, which has no envelope sender, is that of the name given in EHLO.
    fn passes(&self) -> bool {
        let Verdict { dkim, spf, dmarc } = &self.verdict;
        let signed_with = |algorithm: &str| {
            dkim.iter()
                .any(|d| d.algorithm == algorithm && d.result == Outcome::Pass)
        };
        let opendkim = self
            .opendkim()
            .is_none_or(|verdict| verdict.contains("dkim=pass"));
        dkim.len() == 2
            && signed_with("rsa-sha256")
            && signed_with("ed25519-sha256")
            && spf.result == Outcome::Pass
            && dmarc.result == Outcome::Pass
            && opendkim
    }

    /// OpenDKIM's verdicts, if the receiver has one.
    fn opendkim(&self) -> Option<String> {
        match &self.arrived {
            Arrived::Mailbox(received) => Some(received.authentication_results.join(" ")),
            Arrived::Greylist(_) => None,
        }
    }

    fn told(&self) -> String {
        let Verdict { dkim, spf, dmarc } = &self.verdict;
        let mut parts: Vec<String> = dkim
            .iter()
            .map(|d| format!("dkim {} {}", d.algorithm, word(d.result)))
            .collect();
        parts.push(format!("spf {}", word(spf.result)));
        parts.push(format!("dmarc {}", word(dmarc.result)));
        parts.push(
            if self.arrived.tls() {
                "over TLS"
            } else {
                "in clear"
            }
            .to_owned(),
        );
        if let Some(verdict) = self.opendkim() {
            let said = if verdict.contains("dkim=pass") {
                "pass"
            } else {
                "no pass"
            };
            parts.push(format!("OpenDKIM {said}"));
        }
        format!("verified: {}", parts.join(", "))
    }
}

impl Arrived {
    fn path(&self) -> &Path {
        match self {
            Self::Mailbox(received) => &received.path,
            Self::Greylist(transaction) => transaction
                .message
                .as_deref()
                .unwrap_or_else(|| Path::new("")),
        }
    }

    fn tls(&self) -> bool {
        match self {
            Self::Mailbox(received) => received.tls,
            Self::Greylist(transaction) => transaction.tls.is_some(),
        }
    }

    /// Whether it is a notification of failure (RFC 3464).
    fn is_notification(&self) -> bool {
        match self {
            Self::Mailbox(received) => received
                .field("Content-Type")
                .iter()
                .any(|value| value.to_ascii_lowercase().starts_with("multipart/report")),
            Self::Greylist(_) => false,
        }
    }
}

/// The Subject of a stored message.
fn subject(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let header = text.lines().take_while(|line| !line.is_empty());
    let found = header
        .filter_map(|line| line.strip_prefix("Subject: "))
        .next();
    found.unwrap_or_default().trim().to_owned()
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::None => "none",
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::SoftFail => "SOFTFAIL",
        Outcome::Neutral => "NEUTRAL",
        Outcome::TempError => "TEMPERROR",
        Outcome::PermError => "PERMERROR",
    }
}
