//! What a reply is about. The rules are data, in `rules.yaml`.

use serde::Deserialize;

use crate::{
    mail::{Class, Outcome, Reply},
    transport::{Failure, Verdict},
};

/// Tells what replies are about.
#[derive(Debug)]
pub struct Classifier {
    rules: Vec<Rule>,
}

/// Conditions, all of which must hold; an absent one holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    class: Class,
    #[serde(default)]
    codes: Vec<u16>,
    #[serde(default)]
    enhanced: Vec<String>,
    #[serde(default)]
    text: Vec<String>,
}

impl Classifier {
    /// The rules this relay ships with.
    #[must_use]
    pub fn shipped() -> Self {
        let rules = serde_yaml::from_str(include_str!("rules.yaml"))
            .expect("the shipped rules are read by a test");
        Self { rules }
    }

    /// What `reply` is about.
    #[must_use]
    pub fn class(&self, reply: &Reply) -> Class {
        let text = reply.text.to_ascii_lowercase();
        let enhanced = reply.enhanced.map(|code| format!("{}.{}", code.1, code.2));
        let holds = |rule: &&Rule| {
            let code = |code: &u16| *code == reply.code || *code == reply.code / 100;
            let has_code = rule.codes.is_empty() || rule.codes.iter().any(code);
            let is_enhanced = |listed: &String| Some(listed) == enhanced.as_ref();
            let has_enhanced = rule.enhanced.is_empty() || rule.enhanced.iter().any(is_enhanced);
            let has_text =
                rule.text.is_empty() || rule.text.iter().any(|t| text.contains(t.as_str()));
            has_code && has_enhanced && has_text
        };
        self.rules
            .iter()
            .find(holds)
            .map_or(Class::Other, |rule| rule.class)
    }

    /// What a verdict means for its recipient.
    #[must_use]
    pub fn outcome(&self, verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Accepted(reply) => Outcome::Delivered { reply },
            Verdict::Refused(reply) if reply.is_permanent() => Outcome::Bounced {
                class: self.class(&reply),
                reply,
            },
            Verdict::Refused(reply) => Outcome::Deferred {
                class: self.class(&reply),
                reply,
            },
            Verdict::Broken(failure) => self.broken(&failure),
        }
    }

    /// A failed connection says nothing final about a recipient, not even with a 5xx greeting:
    /// that is about this relay's address, and may be cured.
    fn broken(&self, failure: &Failure) -> Outcome {
        let ours = |code, enhanced: &str| {
            Reply::parse([format!("{code} {enhanced} {failure}").as_str()]).unwrap_or_else(|_| {
                Reply {
                    code,
                    enhanced: None,
                    text: failure.to_string(),
                }
            })
        };
        let (class, reply) = match failure {
            Failure::Refused { reply, .. } => (self.class(reply), reply.clone()),
            Failure::Connect(_) => (Class::Network, ours(451, "4.4.1")),
            Failure::Lost { .. } | Failure::TimedOut(_) => (Class::Network, ours(451, "4.4.2")),
            Failure::Protocol { .. } => (Class::Network, ours(451, "4.5.0")),
            Failure::Tls(_) => (Class::Tls, ours(451, "4.7.5")),
        };
        Outcome::Deferred { class, reply }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Stage;

    #[test]
    fn replies_seen_in_the_wild() {
        let classifier = Classifier::shipped();
        for (line, class) in [
            (
                "550 5.1.1 The email account that you tried to reach does not exist",
                Class::InvalidRecipient,
            ),
            (
                "550 5.1.1 <x@y.org>: Recipient address rejected: User unknown in local recipient table",
                Class::InvalidRecipient,
            ),
            (
                "550 5.5.0 Requested action not taken: mailbox unavailable",
                Class::InvalidRecipient,
            ),
            ("550 No such user here", Class::InvalidRecipient),
            (
                "452 4.2.2 The email account that you tried to reach is over quota",
                Class::MailboxFull,
            ),
            ("552 5.2.2 x", Class::MailboxFull),
            (
                "450 4.2.0 <x@y.org>: Recipient address rejected: Greylisted, see http://postgrey",
                Class::Greylisted,
            ),
            (
                "451 4.7.1 Greylisting in action, please come back later",
                Class::Greylisted,
            ),
            (
                "421 4.7.28 Our system has detected an unusual rate of mail",
                Class::Throttled,
            ),
            ("421 Too many concurrent SMTP connections", Class::Throttled),
            ("421 4.3.2 Service shutting down", Class::Throttled),
            (
                "550 5.7.26 Unauthenticated email is not accepted due to domain's DMARC policy",
                Class::AuthFailure,
            ),
            ("550 5.7.1 SPF: not allowed to send", Class::AuthFailure),
            (
                "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org",
                Class::Reputation,
            ),
            ("550 5.7.25 no PTR", Class::Reputation),
            (
                "554 5.7.1 Message rejected: looks like spam",
                Class::Content,
            ),
            ("552 5.3.4 Message size exceeds fixed limit", Class::Content),
            ("550 5.7.1 Relaying denied", Class::Policy),
            ("530 5.7.10 Encryption needed", Class::Tls),
            ("451 Temporary local problem", Class::Other),
            ("550 no", Class::Other),
        ] {
            let reply = Reply::parse([line]).unwrap();
            assert_eq!(classifier.class(&reply), class, "{line}");
        }
    }

    #[test]
    fn patterns_are_lower_case_or_would_never_match() {
        for rule in Classifier::shipped().rules {
            for text in &rule.text {
                assert_eq!(*text, text.to_ascii_lowercase());
            }
            assert!(!rule.codes.is_empty() || !rule.enhanced.is_empty() || !rule.text.is_empty());
        }
    }

    #[test]
    fn only_an_answer_about_the_mail_is_final() {
        let classifier = Classifier::shipped();
        let reply = |line| Reply::parse([line]).unwrap();
        let is_final = |verdict| matches!(classifier.outcome(verdict), Outcome::Bounced { .. });
        assert!(is_final(Verdict::Refused(reply("550 5.1.1 no"))));
        assert!(!is_final(Verdict::Refused(reply("450 4.1.1 no"))));
        let stage = Stage::Greeting;
        for failure in [
            Failure::Refused {
                stage,
                reply: reply("554 go away"),
            },
            Failure::Connect("refused".into()),
            Failure::Lost {
                stage,
                cause: "reset".into(),
            },
            Failure::TimedOut(stage),
            Failure::Protocol {
                stage,
                cause: "noise".into(),
            },
            Failure::Tls("bad certificate".into()),
        ] {
            let Outcome::Deferred { class, reply } = classifier.outcome(Verdict::Broken(failure))
            else {
                panic!("not deferred")
            };
            let is_ours = matches!(class, Class::Network | Class::Tls);
            assert_eq!(is_ours, reply.enhanced.is_some(), "{reply}");
        }
    }
}
