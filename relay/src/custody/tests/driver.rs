//! What drives custody in the fault tests: clients and deliverers whose every step is entered into
//! the [`Ledger`], and the script they follow.

use std::{collections::BTreeMap, sync::MutexGuard};

use futures::future::join_all;
use postrider_crds::queue::Order;

use super::{
    ledger::{Crash, Ledger, Leg, Report, number_of},
    *,
};
use crate::ports::simulated_disk::Survivors;

/// An open custody and its account.
pub(super) struct Driver {
    pub(super) custody: Custody,
    pub(super) clock: Arc<ManualClock>,
    ledger: Arc<Mutex<Ledger>>,
}

/// Longer than anything is deferred for.
pub(super) const LONG: i64 = 100_000;

impl Driver {
    /// Opens an empty disk.
    pub(super) fn open(
        disk: &SimulatedDisk,
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Result<Self, OpenError> {
        let clock = ManualClock::new();
        let custody = Custody::open(parts(disk, &clock))?;
        Ok(Self::of(custody, clock, ledger))
    }

    pub(super) fn of(
        custody: Custody,
        clock: Arc<ManualClock>,
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Self {
        Self {
            custody,
            clock,
            ledger: Arc::clone(ledger),
        }
    }

    /// Opens a disk after a crash and checks it against the ledger of that moment; all of it must
    /// be due `seconds` after the start.
    pub(super) async fn reopen(
        disk: &SimulatedDisk,
        ledger: &Ledger,
        (crash, seconds): (Crash, i64),
        context: &str,
    ) -> Self {
        let clock = ManualClock::new();
        clock.advance(seconds);
        let custody =
            Custody::open(parts(disk, &clock)).unwrap_or_else(|error| panic!("{context}: {error}"));
        let mut found = BTreeMap::new();
        let mut ledger = ledger.clone();
        ledger.check_orders(&custody.orders(), context);
        let claims = all_due(&custody).await;
        for claim in &claims {
            let number = number_of(claim.id);
            let kept = custody.shared.queue().keeps(claim.id, claim.ticket.leg);
            assert!(!kept, "{context}: {number} is kept and given out");
            assert_eq!(claim.body, body(number), "{context}: body of {number}");
            for recipient in &claim.recipients {
                let twice = found.insert((number, *recipient), claim.attempts);
                assert!(twice.is_none(), "{context}: {number}/{recipient} twice");
            }
        }
        for claim in claims {
            custody.put_back(claim).await;
        }
        for (key, leg) in ledger.others(&found) {
            let queue = custody.shared.queue();
            let Some((_, state)) = queue.current(id(key.0)) else {
                continue;
            };
            if state.recipients[key.1] == state::Progress::Pending {
                let kept = queue.keeps(id(key.0), leg);
                assert!(kept, "{context}: {key:?} is neither given out nor kept");
                found.insert(key, state.legs[leg as usize].attempts);
            }
        }
        ledger.check(&found, crash, context);
        Self {
            custody,
            clock,
            ledger: Arc::new(Mutex::new(ledger)),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// The same ledger, for who looks on.
    pub(super) fn shared_ledger(&self) -> Arc<Mutex<Ledger>> {
        Arc::clone(&self.ledger)
    }

    pub(super) async fn accept(&self, message: NewMessage) -> bool {
        let number = number_of(message.id);
        self.ledger().offered(&message);
        let taken = self.custody.accept(message).await;
        if let Ok(committed) = &taken {
            assert_eq!(committed.id(), id(number));
            self.ledger().accepted(number);
        }
        taken.is_ok()
    }

    /// Accepts all of them at once, so that they share a batch.
    pub(super) async fn accept_all(&self, messages: impl IntoIterator<Item = NewMessage>) {
        join_all(messages.into_iter().map(|message| self.accept(message))).await;
    }

    /// What is due first.
    pub(super) async fn claim(&self) -> Option<(Claim, Leg)> {
        let claim = claim_now(&self.custody).await?;
        assert_eq!(claim.body, body(number_of(claim.id)));
        let leg = self.ledger().claimed(&claim);
        Some((claim, leg))
    }

    /// Attempts a claim; a recipient that is not in the report is due again at once.
    pub(super) async fn finish(&self, (claim, leg): (Claim, Leg), report: Report) -> bool {
        self.ledger().starting(&leg);
        if self.custody.attempt_started(&claim).await.is_err() {
            self.custody.put_back(claim).await;
            return false;
        }
        self.ledger().started(&leg);
        self.settle(claim, &leg, &report).await
    }

    async fn settle(&self, claim: Claim, leg: &Leg, report: &Report) -> bool {
        self.ledger().settling(leg, report);
        let told = |number| message(number, &["sender@example.com"]);
        let settlement = Settlement {
            results: report.results.clone(),
            delay_warned: false,
            notification: report.told.map(told),
        };
        match self.custody.settle(claim, settlement).await {
            Ok(()) => {
                self.ledger().settled(leg, report);
                true
            }
            Err(StoreError::Disk(_)) => false,
            Err(error) => panic!("settling {leg:?}: {error}"),
        }
    }

    /// Attempts what is due first, with one result for all its recipients.
    pub(super) async fn attempt(&self, result: RecipientResult) -> bool {
        match self.claim().await {
            Some(taken) => {
                let report = taken.1.all(result);
                self.finish(taken, report).await
            }
            None => false,
        }
    }

    /// Refuses a recipient of what is due first and tells its sender in message `told`.
    pub(super) async fn bounce(&self, told: u64) {
        if let Some(taken) = self.claim().await {
            let mut report = taken.1.all(RecipientResult::Bounced);
            report.results.truncate(1);
            report.told = Some(told);
            self.finish(taken, report).await;
        }
    }

    /// Gives an order. Whether it is in force.
    pub(super) async fn order(&self, verb: Verb, scope: Scope) -> bool {
        let command = command(verb, scope);
        let expected = {
            let queue = self.custody.shared.queue();
            let known = |id| queue.contains(id);
            let now = self.clock.wall();
            queue.orders().obey(command.clone(), now, known)
        };
        let Ok((expected, obeyed)) = expected else {
            let refused = self.custody.order(command).await;
            assert!(refused.is_err(), "{refused:?}");
            return false;
        };
        self.ledger().ordering(expected.list().to_vec());
        match self.custody.order(command).await {
            Ok(answer) => {
                assert_eq!(answer, obeyed);
                self.ledger().ordered();
                true
            }
            Err(OrderError::Disk(_)) => false,
            Err(error) => panic!("an order that can be obeyed is not: {error}"),
        }
    }

    /// Carries out what is ordered to be flushed or expired, as far as the disk lets it.
    pub(super) async fn carry_out(&self) {
        loop {
            let order = self.custody.shared.queue().orders().passing().cloned();
            let Some(order) = order else {
                return;
            };
            match order.verb {
                Verb::Flush if self.custody.flush(&order).await.is_err() => return,
                Verb::Expire => self.expire(&order).await,
                _ => {}
            }
            let rest = {
                let queue = self.custody.shared.queue();
                queue.orders().carried_out(order.number)
            };
            let (rest, _) = rest.expect("it is in force");
            self.ledger().ordering(rest.list().to_vec());
            if self.custody.carried_out(order.number).await.is_err() {
                return;
            }
            self.ledger().ordered();
        }
    }

    async fn expire(&self, order: &Order) {
        let mut from = 0;
        while let Some(due) = self.custody.next_ordered(order, &mut from) {
            let Some(claim) = self.custody.load(due).await else {
                return;
            };
            let leg = self.ledger().claimed(&claim);
            let report = leg.all(RecipientResult::Expired);
            self.settle(claim, &leg, &report).await;
        }
    }

    /// Ends every order.
    pub(super) async fn let_go(&self) {
        self.carry_out().await;
        for order in self.custody.orders() {
            let back = match order.verb {
                Verb::Hold => Verb::Release,
                Verb::Suspend => Verb::Resume,
                Verb::Release | Verb::Resume | Verb::Flush | Verb::Expire => continue,
            };
            // One about a message that is gone needs no end.
            let is_one = matches!(order.scope, Scope::Message(_));
            let ended = self.order(back, order.scope).await;
            assert!(ended || is_one, "the disk works");
        }
    }

    /// Delivers what is due until nothing is.
    pub(super) async fn drain(&self) {
        while self.attempt(RecipientResult::Delivered).await {}
    }

    /// `count` messages that come and, unless something else is due, go at once.
    pub(super) async fn churn(&self, first: u64, count: u64) {
        for number in first..first + count {
            self.accept(message(number, &["a@churn.test"])).await;
            self.attempt(RecipientResult::Delivered).await;
        }
    }
}

/// Not again before so many seconds after the start.
pub(super) fn deferred(seconds: i64) -> RecipientResult {
    RecipientResult::Deferred {
        until: start() + SignedDuration::from_secs(seconds),
    }
}

/// What is left in the second life of a spool.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leave {
    /// Messages of odd numbers.
    Odd,
    /// Messages of even numbers.
    Even,
    /// Nothing.
    Nothing,
}

impl Leave {
    /// One after the other.
    pub(super) const fn nth(number: u64) -> Self {
        match number % 3 {
            0 => Self::Odd,
            1 => Self::Even,
            _ => Self::Nothing,
        }
    }
}

/// The second life of a spool: some messages are delivered, the others deferred, mail comes and
/// goes until segments are compacted and removed, then the power fails again, and in the third life
/// everything ends.
pub(super) async fn live_on(disk: &SimulatedDisk, driver: Driver, leave: Leave, context: &str) {
    driver.clock.advance(2 * LONG);
    driver.let_go().await;
    while let Some(taken) = driver.claim().await {
        let odd = !taken.1.number.is_multiple_of(2);
        let result = match leave {
            Leave::Odd if odd => deferred(10 * LONG),
            Leave::Even if !odd => deferred(10 * LONG),
            Leave::Odd | Leave::Even | Leave::Nothing => RecipientResult::Delivered,
        };
        let report = taken.1.all(result);
        driver.finish(taken, report).await;
    }
    driver.churn(1000, 14).await;
    let at = (Crash::PowerLost, 20 * LONG);
    let context = format!("{context}, second life, left {leave:?}");
    let after = disk.after_crash(Survivors::Synced);
    let ledger = driver.ledger().clone();
    let driver = Driver::reopen(&after, &ledger, at, &context).await;
    driver.drain().await;
    driver.custody.close().await;
    let context = format!("{context}, third life");
    let after = after.after_crash(Survivors::Synced);
    let ledger = driver.ledger().clone();
    let driver = Driver::reopen(&after, &ledger, at, &context).await;
    driver.ledger().assert_all_done(&context);
}

/// Every kind of record, alone and in batches, over many segments, some of which are compacted
/// while they hold records about older ones.
pub(super) async fn script(driver: &Driver) {
    driver.accept(message(1, &["a@one.test"])).await;
    let three_legs = ["a@one.test", "b@two.test", "c@three.test"];
    driver.accept(message(2, &three_legs)).await;
    let mut third = message(3, &["a@one.test", "b@three.test"]);
    third.suppressed = vec![1];
    driver.accept(third).await;
    driver
        .accept_all((4..9).map(|number| message(number, &["a@one.test"])))
        .await;
    driver.attempt(deferred(5000)).await;
    driver.attempt(deferred(600)).await;
    driver.bounce(50).await;
    driver.attempt(deferred(5000)).await;
    driver.attempt(RecipientResult::Delivered).await;
    settle_together(driver).await;
    if let Some((claim, _)) = driver.claim().await {
        driver.custody.put_back(claim).await;
    }
    driver.attempt(RecipientResult::Delivered).await;
    // Its task dies: due again a minute later.
    drop(driver.claim().await);
    orders(driver).await;
    driver.churn(100, 4).await;
    driver.clock.advance(601);
    driver.attempt(deferred(650)).await;
    driver.attempt(RecipientResult::Expired).await;
    let same_leg = ["a@four.test", "b@four.test", "c@four.test"];
    driver.accept(message(20, &same_leg)).await;
    if let Some(taken) = driver.claim().await {
        let report = Report {
            results: taken
                .1
                .recipients
                .iter()
                .zip([RecipientResult::Delivered, deferred(5000)])
                .map(|(recipient, result)| (*recipient, result))
                .collect(),
            told: None,
        };
        driver.finish(taken, report).await;
    }
    for round in 0..14 {
        driver.clock.advance(60);
        if round % 4 == 0 {
            // A record about an older message, again in four rounds.
            driver.attempt(deferred(601 + (round + 5) * 60)).await;
        }
        // Stays, in the midst of what goes.
        let number = round.unsigned_abs();
        driver.accept(message(30 + number, &["a@one.test"])).await;
        driver.attempt(deferred(5000)).await;
        driver.churn(110 + number * 10, 2).await;
    }
}

/// Orders of each kind, two of which stay while segments come and go.
async fn orders(driver: &Driver) {
    driver.clock.advance(1);
    driver.order(Verb::Hold, at_domain("held.test")).await;
    driver.order(Verb::Suspend, at_domain("slow.test")).await;
    driver
        .accept(message(60, &["a@held.test", "b@one.test"]))
        .await;
    driver.accept(message(61, &["a@slow.test"])).await;
    driver.accept(message(62, &["a@held.test"])).await;
    driver.accept(message(63, &["a@late.test"])).await;
    driver.order(Verb::Release, Scope::Message(id(62))).await;
    for _ in 0..3 {
        driver.attempt(deferred(5000)).await;
    }
    driver.order(Verb::Flush, at_domain("late.test")).await;
    driver.order(Verb::Expire, Scope::Message(id(61))).await;
    driver.carry_out().await;
    driver.attempt(RecipientResult::Delivered).await;
    driver.order(Verb::Resume, at_domain("slow.test")).await;
    driver.order(Verb::Hold, Scope::Message(id(63))).await;
}

/// Three attempts that end at once: delivered, deferred, bounced with a notification.
async fn settle_together(driver: &Driver) {
    let mut reports = Vec::new();
    for result in [
        RecipientResult::Delivered,
        deferred(5000),
        RecipientResult::Bounced,
    ] {
        if let Some(taken) = driver.claim().await {
            let mut report = taken.1.all(result);
            report.told = (result == RecipientResult::Bounced).then_some(51);
            reports.push((taken, report));
        }
    }
    let reports = reports.into_iter();
    join_all(reports.map(|(taken, report)| driver.finish(taken, report))).await;
}
