//! What the sink does with whom, as data: readable from JSON, decided without I/O or clock.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the sink does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Rules {
    /// By whole recipient address or, with a leading `@`, by domain; both in lower case. The
    /// address goes before the domain.
    pub recipients: BTreeMap<String, Script>,
    /// For all others.
    pub otherwise: Script,
    /// What becomes of STARTTLS.
    pub starttls: StartTls,
    /// Who may send; without it, everybody, and AUTH is not known.
    pub login: Option<Login>,
}

/// The one account of a sink that wants a login. AUTH PLAIN (RFC 4616) is offered over TLS only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Their password.
    pub password: String,
}

/// What becomes of one recipient's mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", deny_unknown_fields)]
pub enum Script {
    /// Taken.
    Accept,
    /// 450 4.7.1 until the first attempt of the same client, sender and recipient is `seconds`
    /// old.
    GreylistFor {
        /// Seconds.
        seconds: u32,
    },
    /// 450 4.7.1 to the first `attempts` of the same client, sender and recipient.
    GreylistAttempts {
        /// How many are refused.
        attempts: u32,
    },
    /// 550 5.1.1 at RCPT.
    UnknownUser,
    /// 451 4.3.0 at RCPT, always.
    Defer,
    /// 550 5.7.1 at RCPT: policy, not the mailbox.
    Block,
    /// Taken, but RCPT is answered only after this time.
    Slow {
        /// Seconds.
        seconds: u32,
    },
    /// 452 4.2.2 after the message.
    DeferMessage,
    /// 554 5.6.0 after the message.
    RejectMessage,
    /// The connection is closed when DATA is given, without an answer.
    DropAtData,
    /// The connection is closed when the message has come in whole, without an answer.
    DropAfterMessage,
}

/// What becomes of STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StartTls {
    /// Offered, and it works.
    Offered,
    /// Offered, and then answered with 454 4.7.0 (RFC 3207 section 4).
    Refused,
    /// Neither offered nor known.
    Absent,
    /// Offered and accepted, and then the handshake fails.
    Broken,
}

impl Rules {
    /// The same, but for one recipient, in lower case.
    #[must_use]
    pub fn but(mut self, recipient: &str, script: Script) -> Self {
        self.recipients.insert(recipient.to_owned(), script);
        self
    }
}

impl Default for Rules {
    /// Takes everything, over TLS if the client likes.
    fn default() -> Self {
        Self {
            recipients: BTreeMap::new(),
            otherwise: Script::Accept,
            starttls: StartTls::Offered,
            login: None,
        }
    }
}

/// A recipient about to be decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Triplet {
    /// Who delivers.
    pub(super) client: IpAddr,
    /// For whom.
    pub(super) mail_from: String,
    /// To whom.
    pub(super) recipient: String,
}

/// What is answered to RCPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// 250, and then as the script says.
    Take(Script),
    /// Code and text.
    Refuse(u16, &'static str),
}

/// The rules and, for greylisting, what came before.
#[derive(Debug)]
pub(super) struct Memory {
    rules: Rules,
    seen: Mutex<HashMap<Triplet, Seen>>,
}

#[derive(Debug)]
struct Seen {
    first: Timestamp,
    refused: u32,
}

impl Memory {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// What becomes of STARTTLS.
    pub(super) fn starttls(&self) -> StartTls {
        self.rules.starttls
    }

    /// Who may send, if not everybody.
    pub(super) fn login(&self) -> Option<&Login> {
        self.rules.login.as_ref()
    }

    /// What to answer to RCPT at the time `now`.
    pub(super) fn decide(&self, triplet: Triplet, now: Timestamp) -> Decision {
        let script = self.script(&triplet.recipient);
        match script {
            Script::Accept
            | Script::Slow { .. }
            | Script::DeferMessage
            | Script::RejectMessage
            | Script::DropAtData
            | Script::DropAfterMessage => Decision::Take(script),
            Script::UnknownUser => Decision::Refuse(550, "5.1.1 no such user here"),
            Script::Defer => Decision::Refuse(451, "4.3.0 try again later"),
            Script::Block => Decision::Refuse(550, "5.7.1 blocked by policy"),
            Script::GreylistFor { seconds } => self.greylist(triplet, now, |seen| {
                now.duration_since(seen.first).as_secs() < i64::from(seconds)
            }),
            Script::GreylistAttempts { attempts } => {
                self.greylist(triplet, now, |seen| seen.refused < attempts)
            }
        }
    }

    fn greylist(
        &self,
        triplet: Triplet,
        now: Timestamp,
        early: impl FnOnce(&Seen) -> bool,
    ) -> Decision {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(triplet).or_insert(Seen {
            first: now,
            refused: 0,
        });
        if early(seen) {
            seen.refused += 1;
            Decision::Refuse(450, "4.7.1 greylisted, try again later")
        } else {
            Decision::Take(Script::Accept)
        }
    }

    fn script(&self, recipient: &str) -> Script {
        let recipient = recipient.to_ascii_lowercase();
        let rules = &self.rules.recipients;
        let domain = recipient.rfind('@').and_then(|at| recipient.get(at..));
        let found = rules
            .get(&recipient)
            .or_else(|| domain.and_then(|domain| rules.get(domain)));
        *found.unwrap_or(&self.rules.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn memory(rules: &[(&str, Script)]) -> Memory {
        Memory::new(Rules {
            recipients: rules
                .iter()
                .map(|(who, script)| ((*who).to_owned(), *script))
                .collect(),
            ..Rules::default()
        })
    }

    fn triplet(recipient: &str, client: u8) -> Triplet {
        Triplet {
            client: Ipv4Addr::new(127, 0, 0, client).into(),
            mail_from: "a@from.test".to_owned(),
            recipient: recipient.to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn code(decision: Decision) -> u16 {
        match decision {
            Decision::Take(_) => 250,
            Decision::Refuse(code, _) => code,
        }
    }

    #[test]
    fn the_address_goes_before_the_domain() {
        let memory = memory(&[
            ("@to.test", Script::Defer),
            ("b@to.test", Script::UnknownUser),
        ]);
        let decide = |who| code(memory.decide(triplet(who, 1), at(0)));
        assert_eq!(decide("B@To.Test"), 550);
        assert_eq!(decide("c@to.test"), 451);
        assert_eq!(decide("c@other.test"), 250);
    }

    #[test]
    fn greylisting_by_time_counts_from_the_first_attempt_of_the_triplet() {
        let memory = memory(&[("@to.test", Script::GreylistFor { seconds: 10 })]);
        let table = [
            (1, 100, 450),
            (1, 109, 450),
            (2, 109, 450),
            (1, 110, 250),
            (2, 118, 450),
        ];
        for (client, second, wanted) in table {
            let decision = memory.decide(triplet("b@to.test", client), at(second));
            assert_eq!(code(decision), wanted, "client {client} at {second}");
        }
    }

    #[test]
    fn greylisting_by_attempts_counts_each_triplet() {
        let memory = memory(&[("@to.test", Script::GreylistAttempts { attempts: 2 })]);
        let codes: Vec<_> = (0..4)
            .map(|_| code(memory.decide(triplet("b@to.test", 1), at(0))))
            .collect();
        assert_eq!(codes, [450, 450, 250, 250]);
        assert_eq!(code(memory.decide(triplet("b@to.test", 2), at(0))), 450);
    }

    #[test]
    fn rules_are_read_from_json() {
        let text = r#"{"recipients": {"@to.test": {"do": "greylistFor", "seconds": 5},
            "x@to.test": {"do": "unknownUser"}}, "starttls": "refused"}"#;
        let rules: Rules = serde_json::from_str(text).unwrap();
        assert_eq!(
            rules.recipients["@to.test"],
            Script::GreylistFor { seconds: 5 }
        );
        assert_eq!(rules.otherwise, Script::Accept);
        assert_eq!(rules.starttls, StartTls::Refused);
        let wrong = serde_json::from_str::<Rules>(r#"{"startls": "refused"}"#);
        assert!(wrong.is_err_and(|error| error.to_string().contains("startls")));
    }
}
