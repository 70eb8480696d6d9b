//! The account: what a client and a deliverer were promised, and whether it was kept.

use std::collections::BTreeMap;

use super::*;

/// What must be found of a recipient after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// Pending, once.
    Pending,
    /// Pending once, or not at all: nobody was promised anything.
    Unknown,
    /// Done.
    Done,
}

/// By message number and recipient.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) recipients: BTreeMap<(u64, usize), Expect>,
    /// Attempts that must be found, where a synced record says so.
    pub(super) attempts: BTreeMap<(u64, usize), u32>,
    /// Pairs of which exactly one is pending: a bounced recipient and its notification.
    pub(super) either: Vec<((u64, usize), (u64, usize))>,
}

impl Account {
    pub(super) async fn accept(&mut self, custody: &Custody, new: NewMessage) -> bool {
        let number = number_of(new.id);
        let count = new.envelope.recipients.len();
        let suppressed = new.suppressed.clone();
        let done = custody.accept(new).await;
        if let Ok(committed) = &done {
            assert_eq!(committed.id(), id(number));
        }
        for recipient in 0..count {
            let expect = match done {
                _ if suppressed.contains(&recipient) => Expect::Done,
                Ok(_) => Expect::Pending,
                Err(_) => Expect::Unknown,
            };
            self.recipients.insert((number, recipient), expect);
        }
        done.is_ok()
    }

    /// Claims, records the attempt, settles with `result`; false when the disk did not take it or
    /// nothing is due.
    pub(super) async fn attempt(
        &mut self,
        custody: &Custody,
        result: RecipientResult,
        notification: Option<NewMessage>,
    ) -> bool {
        let Some(claim) = claim_now(custody).await else {
            return false;
        };
        let (number, recipients) = (number_of(claim.id), claim.recipients.clone());
        assert_eq!(claim.body, body(number));
        if custody.attempt_started(&claim).await.is_err() {
            // Refused, yet a crash may have left the record.
            for recipient in recipients {
                self.attempts.remove(&(number, recipient));
            }
            custody.put_back(claim).await;
            return false;
        }
        let attempts = claim.attempts + 1;
        let told = notification.as_ref().map(|n| number_of(n.id));
        let settlement = Settlement {
            results: recipients.iter().map(|r| (*r, result)).collect(),
            delay_warned: false,
            notification,
        };
        let done = custody.settle(claim, settlement).await;
        let deferred = matches!(result, RecipientResult::Deferred { .. });
        for recipient in recipients {
            let key = (number, recipient);
            self.attempts.remove(&key);
            match (&done, deferred) {
                (Ok(()), true) => drop(self.attempts.insert(key, attempts)),
                (Ok(()), false) => drop(self.recipients.insert(key, Expect::Done)),
                (Err(_), true) => {}
                (Err(_), false) => drop(self.recipients.insert(key, Expect::Unknown)),
            }
            if let Some(told) = told {
                let expect = match done {
                    Ok(()) => Expect::Pending,
                    Err(_) => Expect::Unknown,
                };
                self.recipients.insert((told, 0), expect);
                self.either.push((key, (told, 0)));
            }
        }
        done.is_ok()
    }

    /// Checks a reopened custody against the account. All of it must be due.
    pub(super) async fn check(&self, custody: &Custody, context: &str) {
        let mut found: BTreeMap<(u64, usize), u32> = BTreeMap::new();
        for claim in all_due(custody).await {
            let number = number_of(claim.id);
            assert_eq!(claim.body, body(number), "{context}: body of {number}");
            for recipient in &claim.recipients {
                let twice = found.insert((number, *recipient), claim.attempts);
                assert!(twice.is_none(), "{context}: {number}/{recipient} twice");
            }
            custody.put_back_later(claim);
        }
        for (key, expect) in &self.recipients {
            match expect {
                Expect::Pending => assert!(found.contains_key(key), "{context}: {key:?} lost"),
                Expect::Done => assert!(!found.contains_key(key), "{context}: {key:?} is back"),
                Expect::Unknown => {}
            }
        }
        for key in found.keys() {
            assert!(
                self.recipients.contains_key(key),
                "{context}: {key:?} invented"
            );
        }
        for (key, attempts) in &self.attempts {
            assert_eq!(
                found.get(key),
                Some(attempts),
                "{context}: attempts of {key:?}"
            );
        }
        for (bounced, told) in &self.either {
            let pair = (found.contains_key(bounced), found.contains_key(told));
            let told_done = self.recipients.get(told) == Some(&Expect::Done);
            assert!(
                pair.0 != pair.1 || told_done,
                "{context}: {bounced:?} {told:?} {pair:?}"
            );
        }
    }
}

impl Custody {
    /// Lets a claim go as a dying task would.
    fn put_back_later(&self, claim: Claim) {
        drop(claim);
    }
}

/// The workload: every kind of record, several segments, compaction. Stops at the first refusal
/// when `stop` says so, as after a crash.
pub(super) async fn workload(
    custody: &Custody,
    clock: &ManualClock,
    account: &mut Account,
    keep_going: impl Fn() -> bool,
) {
    let until = |seconds: i64| RecipientResult::Deferred {
        until: start() + SignedDuration::from_secs(seconds),
    };
    account.accept(custody, message(1, &["a@one.test"])).await;
    account
        .accept(
            custody,
            message(2, &["a@one.test", "b@two.test", "c@two.test"]),
        )
        .await;
    let mut third = message(3, &["a@one.test", "b@three.test"]);
    third.suppressed = vec![1];
    account.accept(custody, third).await;
    if !keep_going() {
        return;
    }
    account.attempt(custody, until(900), None).await;
    account.attempt(custody, until(600), None).await;
    account
        .attempt(
            custody,
            RecipientResult::Bounced,
            Some(message(50, &["sender@example.com"])),
        )
        .await;
    account
        .attempt(custody, RecipientResult::Delivered, None)
        .await;
    for number in 4..16 {
        if !keep_going() {
            return;
        }
        account
            .accept(custody, message(number, &["a@one.test"]))
            .await;
        account
            .attempt(custody, RecipientResult::Delivered, None)
            .await;
    }
    clock.advance(601);
    account.attempt(custody, until(2000), None).await;
    account
        .attempt(custody, RecipientResult::Expired, None)
        .await;
    for number in 16..26 {
        if !keep_going() {
            return;
        }
        account
            .accept(custody, message(number, &["a@one.test"]))
            .await;
        account
            .attempt(custody, RecipientResult::Delivered, None)
            .await;
    }
    account.accept(custody, message(30, &["a@one.test"])).await;
}

fn number_of(id: MessageId) -> u64 {
    (id.to_u128() & u128::from(u64::MAX)) as u64
}
