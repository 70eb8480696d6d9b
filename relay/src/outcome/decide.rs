//! What becomes of a leg after an attempt.

use jiff::{SignedDuration, Timestamp};
use postrider_crds::{Duration, relay_config::Delivery};

use super::next_attempt;
use crate::{
    mail::{Class, EnhancedCode, Outcome, Reply},
    ports::Random,
};

/// Where a leg stands when its attempt has ended.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    /// When the message was accepted.
    pub accepted: Timestamp,
    /// Attempts made, this one too.
    pub attempts: u32,
    /// Whether the sender was told of the delay before.
    pub warned: Warned,
}

/// Whether the sender knows that the message is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warned {
    /// Told before.
    Yes,
    /// Not told.
    No,
}

/// What becomes of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Over, well.
    Delivered {
        /// What the remote said.
        reply: Reply,
    },
    /// Again.
    Deferred {
        /// Kind of cause.
        class: Class,
        /// What the remote said, or we.
        reply: Reply,
        /// When.
        until: Timestamp,
        /// Whether the sender is to be told now.
        notice: Notice,
    },
    /// Over, badly.
    Bounced {
        /// Kind of cause.
        class: Class,
        /// What the remote said, or we.
        reply: Reply,
    },
    /// Over, for age.
    Expired {
        /// The last failure.
        reply: Reply,
    },
    /// Kept back, and goes on to be: only the sender is told now, or would be if there were one.
    Late {
        /// Why.
        reply: Reply,
    },
}

/// Whether the sender is told of a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Now.
    Due,
    /// Not, or not again.
    None,
}

/// What an outcome means for a recipient of `leg`, as of `now`.
#[must_use]
pub fn decide(
    outcome: Outcome,
    leg: &Leg,
    delivery: &Delivery,
    now: Timestamp,
    random: &dyn Random,
) -> Ruling {
    match outcome {
        Outcome::Delivered { reply } => Ruling::Delivered { reply },
        Outcome::Bounced { class, reply } => Ruling::Bounced { class, reply },
        Outcome::Deferred { reply, .. } if is_over(leg, delivery, now) => Ruling::Expired { reply },
        Outcome::Deferred { class, reply } => {
            let expiry = expiry(leg.accepted, delivery);
            let next = next_attempt(delivery.retry, leg.attempts, now, random);
            let late = after(leg.accepted, delivery.delay_warning_after) <= now;
            Ruling::Deferred {
                class,
                reply,
                // Not beyond expiry, so that the sender hears of it in time.
                until: next.min(expiry),
                notice: match (late, leg.warned) {
                    (true, Warned::No) => Notice::Due,
                    (true, Warned::Yes) | (false, _) => Notice::None,
                },
            }
        }
    }
}

impl Leg {
    /// The ruling for a leg that is too old to be attempted, or `None`. `hold` is why it was kept
    /// back last, if it was.
    #[must_use]
    pub fn expired(
        &self,
        delivery: &Delivery,
        now: Timestamp,
        hold: Option<&str>,
    ) -> Option<Ruling> {
        if !is_over(self, delivery, now) {
            return None;
        }
        let (age, attempts) = (delivery.expire_after, self.attempts);
        let text = match hold {
            None => format!("not delivered within {age} in {attempts} attempts"),
            Some(why) => format!("not delivered within {age} in {attempts} attempts: {why}"),
        };
        // RFC 3463 §3.5: delivery time expired.
        let reply = Reply::new(554, EnhancedCode(5, 4, 7), text);
        Some(Ruling::Expired { reply })
    }
}

/// When a message accepted at `accepted` is given up.
#[must_use]
pub fn expiry(accepted: Timestamp, delivery: &Delivery) -> Timestamp {
    after(accepted, delivery.expire_after)
}

fn is_over(leg: &Leg, delivery: &Delivery, now: Timestamp) -> bool {
    expiry(leg.accepted, delivery) <= now
}

fn after(start: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::from_secs(i64::try_from(wait.as_secs()).unwrap_or(i64::MAX));
    start.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use postrider_crds::relay_config::{Retry, TlsMode};

    use super::*;

    struct Half;
    impl Random for Half {
        fn next_u64(&self) -> u64 {
            u64::MAX / 2
        }
    }

    fn delivery() -> Delivery {
        Delivery {
            retry: Retry {
                initial: "1m".parse().unwrap(),
                maximum: "4h".parse().unwrap(),
            },
            expire_after: "5d".parse().unwrap(),
            delay_warning_after: "4h".parse().unwrap(),
            tls: TlsMode::Opportunistic,
            port: 25,
            connections_per_site: 2,
        }
    }

    fn deferred() -> Outcome {
        Outcome::Deferred {
            class: Class::Greylisted,
            reply: Reply::new(450, EnhancedCode(4, 2, 0), "later"),
        }
    }

    fn rule(outcome: Outcome, attempts: u32, warned: Warned, age: &str) -> Ruling {
        let accepted: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let leg = Leg {
            accepted,
            attempts,
            warned,
        };
        let now = after(accepted, age.parse().unwrap());
        decide(outcome, &leg, &delivery(), now, &Half)
    }

    #[test]
    fn a_warning_is_due_once_and_late() {
        for (age, warned, expected) in [
            ("3h59m", Warned::No, Notice::None),
            ("4h", Warned::No, Notice::Due),
            ("4h", Warned::Yes, Notice::None),
        ] {
            let ruling = rule(deferred(), 8, warned, age);
            assert!(
                matches!(ruling, Ruling::Deferred { notice, .. } if notice == expected),
                "{age} {ruling:?}"
            );
        }
    }

    #[test]
    fn age_ends_deferral_and_the_last_wait_ends_at_expiry() {
        assert!(matches!(
            rule(deferred(), 40, Warned::Yes, "5d"),
            Ruling::Expired { .. }
        ));
        let Ruling::Deferred { until, .. } = rule(deferred(), 40, Warned::Yes, "4d23h") else {
            panic!("not deferred")
        };
        assert_eq!(until.to_string(), "2026-01-06T00:00:00Z");
        // What arrives late arrives nevertheless.
        let reply = Reply::new(250, EnhancedCode(2, 0, 0), "ok");
        assert!(matches!(
            rule(Outcome::Delivered { reply }, 1, Warned::No, "6d"),
            Ruling::Delivered { .. }
        ));
    }
}
