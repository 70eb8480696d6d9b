//! Random histories: any steps in any order, faults and crashes in between, several lives, and at
//! the end an account of every message. A failure names its seed.

use super::{
    driver::{Driver, LONG, deferred},
    ledger::{Crash, Ledger},
    *,
};
use crate::ports::simulated_disk::{Failure, Survivors};

/// Variable that has one history tried again.
const SEED: &str = "POSTRIDER_SEED";
/// Most lives of one spool.
const LIVES: u64 = 4;
/// Most steps of one life.
const STEPS: u64 = 40;

/// The disk and the ledger at the moment of a crash.
type Moment = Arc<Mutex<Option<(SimulatedDisk, Ledger)>>>;

/// One spool through its lives.
struct History {
    random: fastrand::Rng,
    seed: u64,
    next_message: u64,
    seconds: i64,
    /// Whether the disk has failed in this life.
    ailed: bool,
}

impl History {
    fn number(&mut self) -> u64 {
        self.next_message += 1;
        self.next_message
    }

    async fn run(&mut self) -> u32 {
        let mut disk = SimulatedDisk::new(Faults::default());
        let mut driver = Driver::open(&disk, &Arc::default()).unwrap();
        for life in 0..=self.random.u64(..LIVES) {
            let context = format!("seed {}, life {life}", self.seed);
            let moment = self.crash_later(&disk, driver.shared_ledger());
            for _ in 0..=self.random.u64(..STEPS) {
                self.step(&disk, &driver).await;
            }
            disk.set_faults(Faults::default());
            if self.random.u64(..3) == 0 {
                driver.custody.close().await;
            }
            disk.put_camera_away();
            let crashed = moment.lock().unwrap().take();
            let (crashed, ledger) = match crashed {
                Some(moment) => moment,
                None => (disk, driver.ledger().clone()),
            };
            let (survivors, crash) = self.survivors();
            // A write that fails takes unsynced attempts with it, as a power failure does.
            let crash = match std::mem::take(&mut self.ailed) {
                true => Crash::PowerLost,
                false => crash,
            };
            disk = crashed.after_crash(survivors);
            self.seconds += LONG;
            let at = (crash, self.seconds);
            driver = Driver::reopen(&disk, &ledger, at, &context).await;
        }
        self.end(&disk, driver).await
    }

    /// Everything ends; the number of duplicates.
    async fn end(&mut self, disk: &SimulatedDisk, driver: Driver) -> u32 {
        let context = format!("seed {}, the end", self.seed);
        driver.let_go().await;
        driver.drain().await;
        driver.custody.close().await;
        let disk = disk.after_crash(Survivors::Synced);
        self.seconds += LONG;
        let at = (Crash::PowerLost, self.seconds);
        let ledger = driver.ledger().clone();
        let driver = Driver::reopen(&disk, &ledger, at, &context).await;
        driver.ledger().assert_all_done(&context);
        driver.ledger().duplicates()
    }

    /// Chooses the call after which the machine stops.
    fn crash_later(&mut self, disk: &SimulatedDisk, ledger: Arc<Mutex<Ledger>>) -> Moment {
        let moment = Moment::default();
        let into = Arc::clone(&moment);
        let mut calls = self.random.u64(..100);
        disk.photograph(move |disk| {
            if calls == 0 {
                let ledger = ledger.lock().unwrap().clone();
                *into.lock().unwrap() = Some((disk, ledger));
            }
            calls = calls.wrapping_sub(1);
        });
        moment
    }

    fn survivors(&mut self) -> (Survivors, Crash) {
        match self.random.u64(..4) {
            0 => (Survivors::All, Crash::Killed),
            1 => (Survivors::Synced, Crash::PowerLost),
            _ => (Survivors::Chance(self.random.u64(..)), Crash::PowerLost),
        }
    }

    async fn step(&mut self, disk: &SimulatedDisk, driver: &Driver) {
        match self.random.u64(..23) {
            0..5 => drop(driver.accept(self.message()).await),
            5..7 => {
                let messages: Vec<_> = (0..self.random.u64(1..6)).map(|_| self.message()).collect();
                driver.accept_all(messages).await;
            }
            7..14 => self.attempt(driver).await,
            14 => {
                for _ in 0..self.random.u64(1..5) {
                    driver.attempt(RecipientResult::Delivered).await;
                }
            }
            15 => self.clock(driver),
            16 => drop(driver.claim().await),
            17 => {
                if let Some((claim, _)) = driver.claim().await {
                    driver.custody.put_back(claim).await;
                }
            }
            18 => self.fail(disk),
            19..21 => self.order(driver).await,
            21 => driver.carry_out().await,
            _ => {
                disk.set_faults(Faults::default());
                sleep(Duration::from_secs(2)).await;
            }
        }
    }

    fn message(&mut self) -> NewMessage {
        let all = ["a@one.test", "b@one.test", "c@two.test", "d@three.test"];
        let first = self.random.usize(..all.len());
        let last = self.random.usize(first..all.len());
        let mut new = message(self.number(), &all[first..=last]);
        if last > first && self.random.u64(..5) == 0 {
            new.suppressed = vec![self.random.usize(..=last - first)];
        }
        new
    }

    async fn attempt(&mut self, driver: &Driver) {
        let Some(taken) = driver.claim().await else {
            return;
        };
        let until = self.seconds + self.random.i64(-100..2000);
        let mut report = taken.1.all(match self.random.u64(..8) {
            0..4 => RecipientResult::Delivered,
            4 => RecipientResult::Expired,
            5 => RecipientResult::Bounced,
            _ => deferred(until),
        });
        if self.random.u64(..4) == 0 {
            report.results.truncate(1);
        }
        if report.results[0].1 == RecipientResult::Bounced {
            report.results.truncate(1);
            report.told = Some(self.number());
        }
        driver.finish(taken, report).await;
    }

    async fn order(&mut self, driver: &Driver) {
        let verb = Verb::ALL[self.random.usize(..Verb::ALL.len())];
        let scope = match self.random.u64(..8) {
            0 => Scope::Tenant("apps/legacy".into()),
            1..4 => Scope::Message(id(self.random.u64(..=self.next_message))),
            _ => at_domain(["one.test", "two.test", "three.test"][self.random.usize(..3)]),
        };
        let is_one = matches!(scope, Scope::Message(_));
        if !(is_one && matches!(verb, Verb::Suspend | Verb::Resume)) {
            driver.order(verb, scope).await;
        }
    }

    /// The wall clock goes on, or jumps either way.
    fn clock(&mut self, driver: &Driver) {
        let seconds = self.random.i64(-500..1500);
        driver.clock.advance(seconds);
    }

    fn fail(&mut self, disk: &SimulatedDisk) {
        self.ailed = true;
        let failure = match self.random.u64(..4) {
            0 => Failure::Short,
            1 => Failure::ReadOnly,
            2 => Failure::Error(std::io::ErrorKind::StorageFull),
            _ => Failure::Error(std::io::ErrorKind::Other),
        };
        let from = disk.calls() + self.random.u64(..8);
        disk.set_faults(Faults {
            fail: Some((from..from + self.random.u64(1..12), failure)),
            ..Faults::default()
        });
    }
}

#[tokio::test(start_paused = true)]
async fn random_histories_end_with_every_message_accounted_for() {
    let one = std::env::var(SEED).map(|seed| seed.parse().unwrap());
    let seeds = one.map_or_else(|_| 0..effort(150, 5000), |seed: u64| seed..seed + 1);
    let mut duplicates = 0;
    for seed in seeds.clone() {
        let mut history = History {
            random: fastrand::Rng::with_seed(seed),
            seed,
            next_message: 0,
            seconds: 0,
            ailed: false,
        };
        duplicates += history.run().await;
    }
    eprintln!("histories {seeds:?}, {duplicates} deliveries repeated, all within the window");
    assert!(
        duplicates > 0,
        "no crash came between a delivery and its record"
    );
}
