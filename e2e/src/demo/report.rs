//! The demo's result: for each message its stages, and what was verified where it arrived.

use std::{net::SocketAddr, path::Path};

use super::{journal::Journal, messages::Sent, world::Arrived};
use crate::peers::{Case, Outcome, Verdict};

/// An arrived message with the judges' verdict; without one, there was nothing stored to judge.
#[derive(Debug)]
pub(crate) struct Judged {
    subject: String,
    arrived: Arrived,
    verdict: Option<Verdict>,
}

/// The questions to the judges, one for each arrived message that was stored.
pub(crate) fn cases(arrived: &[Arrived], nameserver: SocketAddr) -> Vec<Case> {
    let case = |arrived: &Arrived| match arrived {
        Arrived::Mailbox(received) => Some(received.case(nameserver)),
        Arrived::Greylist(transaction) => transaction.case(nameserver),
    };
    arrived.iter().filter_map(case).collect()
}

/// The arrived messages beside their verdicts, which come in the order of the [`cases`].
pub(crate) fn judged(arrived: Vec<Arrived>, verdicts: Vec<Verdict>) -> Vec<Judged> {
    let mut verdicts = verdicts.into_iter();
    let judged = arrived.into_iter().map(|arrived| {
        let stored = arrived.stored();
        Judged {
            subject: stored.map(subject).unwrap_or_default(),
            verdict: stored.and_then(|_| verdicts.next()),
            arrived,
        }
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

/// The failures the sender was told of: each bounced message's DSN has come back, once, and verifies;
/// no other has come.
fn print_notifications(sent: &[Sent], journal: &Journal, judged: &[Judged]) -> bool {
    let reports: Vec<&Judged> = judged
        .iter()
        .filter(|j| j.arrived.is_notification())
        .collect();
    let mut good = true;
    let mut expected = 0;
    for one in sent.iter().filter(|one| one.message.fate.is_told_of()) {
        expected += 1;
        let notification = journal.notification(&one.id).unwrap_or("-");
        let is = |report: &&&Judged| report.arrived.is_called(notification);
        let arrived = reports.iter().filter(is).count();
        let told = one.sender_is_told(journal) && arrived == 1;
        good &= told;
        let mark = if told { "ok " } else { "BAD" };
        println!(
            "{mark} {notification}  the sender is told that {} bounced",
            one.id
        );
        if arrived != 1 {
            println!("    arrived {arrived} times, expected 1");
        }
    }
    for report in &reports {
        good &= report.passes();
        println!("    {}", report.told());
    }
    if reports.len() != expected {
        println!(
            "BAD {} notifications arrived, expected {expected}",
            reports.len()
        );
    }
    good && reports.len() == expected
}

impl Judged {
    /// Both signatures, SPF and DMARC pass, and OpenDKIM agrees where it was asked. SPF of a
    /// notification, which has no envelope sender, is that of the name given in EHLO.
    fn passes(&self) -> bool {
        let Some(Verdict { dkim, spf, dmarc }) = &self.verdict else {
            return false;
        };
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
        let Some(Verdict { dkim, spf, dmarc }) = &self.verdict else {
            return "not verified: nothing was stored".to_owned();
        };
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
    /// The file it was stored in, if it was.
    fn stored(&self) -> Option<&Path> {
        match self {
            Self::Mailbox(received) => Some(&received.path),
            Self::Greylist(transaction) => transaction.message.as_deref(),
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

    /// Whether the relay that wrote it calls it `id`, as its Message-ID says.
    fn is_called(&self, id: &str) -> bool {
        match self {
            Self::Mailbox(received) => received
                .field("Message-ID")
                .iter()
                .any(|value| value.starts_with(&format!("<{id}@"))),
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::{
        demo::messages::{Fate, Message},
        peers::{DkimVerdict, DmarcVerdict, Received, SpfVerdict, sink::Transaction},
    };

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn verdict(selector: &str) -> Verdict {
        let signed = |algorithm: &str| DkimVerdict {
            domain: "shop.example".into(),
            selector: selector.into(),
            algorithm: algorithm.into(),
            result: Outcome::Pass,
            detail: String::new(),
        };
        Verdict {
            dkim: ["rsa-sha256", "ed25519-sha256"].map(signed).to_vec(),
            spf: SpfVerdict {
                domain: "shop.example".into(),
                result: Outcome::Pass,
                detail: String::new(),
            },
            dmarc: DmarcVerdict {
                domain: "shop.example".into(),
                result: Outcome::Pass,
                policy: "none".into(),
                aligned_by: vec!["dkim".into()],
                detail: String::new(),
            },
        }
    }

    fn taken(message: Option<&str>) -> Arrived {
        Arrived::Greylist(Transaction {
            begun: jiff::Timestamp::UNIX_EPOCH,
            ended: jiff::Timestamp::UNIX_EPOCH,
            client_ip: CLIENT,
            helo: "mail.shop.example".into(),
            tls: None,
            mail_from: "noreply@shop.example".into(),
            parameters: String::new(),
            recipients: Vec::new(),
            message: message.map(Into::into),
            reply: Some("250 taken".into()),
        })
    }

    #[test]
    fn verdicts_stay_with_the_messages_they_are_about() {
        let arrived = || vec![taken(Some("a")), taken(None), taken(Some("b"))];
        let asked = cases(&arrived(), (CLIENT, 53).into());
        let about = |case: &Case| verdict(&case.message.display().to_string());
        let judged = judged(arrived(), asked.iter().map(about).collect());
        let selector = |one: &Judged| Some(one.verdict.as_ref()?.dkim[0].selector.clone());
        let selectors: Vec<_> = judged.iter().map(selector).collect();
        assert_eq!(selectors, [Some("a".into()), None, Some("b".into())]);
        assert_eq!(
            judged.iter().map(Judged::passes).collect::<Vec<_>>(),
            [true, false, true]
        );
    }

    fn notification(id: &str) -> Judged {
        let field = |name: &str, value: String| (name.to_owned(), value);
        Judged {
            subject: "Undeliverable".into(),
            arrived: Arrived::Mailbox(Received {
                path: "a".into(),
                recipient: "noreply@shop.example".into(),
                mail_from: String::new(),
                client_ip: CLIENT,
                helo: "mail.shop.example".into(),
                tls: true,
                authentication_results: vec!["dkim=pass".into()],
                header: vec![
                    field("Message-ID", format!("<{id}@bounce.shop.example>")),
                    field("Content-Type", "multipart/report; boundary=x".into()),
                ],
            }),
            verdict: Some(verdict("pr")),
        }
    }

    #[test]
    fn each_bounce_is_told_once_and_nothing_else_is() {
        let bounced = |id: &str| Sent {
            message: Message {
                to: "nobody@mailbox.example".into(),
                subject: format!("Your order {id}"),
                fate: Fate::Bounced,
            },
            id: id.into(),
        };
        let sent = [bounced("x"), bounced("y")];
        let line = |id: &str, more: &str| format!("{{\"id\":\"{id}\",{more}}}\n");
        let of = |id: &str, told: &str| {
            let notified = format!("\"stage\":\"notified\",\"notification\":\"{told}\"");
            let stages = ["accepted", "bounced"].map(|one| format!("\"stage\":\"{one}\""));
            let own = stages.iter().map(|stage| line(id, stage));
            let delivered = line(told, "\"stage\":\"delivered\"");
            own.collect::<String>() + &line(id, &notified) + &delivered
        };
        let journal = Journal::parse(&(of("x", "m") + &of("y", "n")));
        let good = |arrived: &[&str]| {
            let judged: Vec<_> = arrived.iter().map(|id| notification(id)).collect();
            print(&sent, &journal, &judged)
        };
        assert!(good(&["m", "n"]));
        assert!(!good(&["m"]), "one has not come");
        assert!(!good(&["m", "m"]), "one has come twice, the other not");
        assert!(!good(&["m", "n", "n"]), "one has come twice");
        assert!(!good(&["m", "n", "o"]), "nobody knows of the third");
        assert!(!good(&[]));
    }
}
