//! Who a client is, found out off the reactor.
//!
//! Flow: an attempt waits as the failed logins of its network have it ([`Brake`]); one whose password
//! was verified before passes; any other takes its turn at the processor and is verified.
//!
//! Guarantees: an attempt that waits for its network's sake holds up nobody else's. Once its network
//! has failed too often, no password is compared with anything before it has waited. Caveats:
//! attempts that stand in line when that happens have been compared with what was verified before,
//! which is one password a session at most.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{ConfigWatch, Settings},
    ports::Clock,
    submission::{Attempt, Authenticator, Brake, Passage, Verdict},
};

/// Logins verified at a time; each takes some milliseconds of a processor.
const VERIFICATIONS: usize = 4;

/// The attempts of all sessions.
pub(super) struct Logins {
    authenticator: Authenticator,
    settings: ConfigWatch,
    clock: Arc<dyn Clock>,
    brake: Mutex<Brake>,
    turns: Semaphore,
    stop: CancellationToken,
}

/// Whether an attempt has waited for failures of its network.
enum Waited {
    /// There was no need to.
    No,
    Enough,
    /// Too many do, or the relay stops.
    InVain,
}

impl Logins {
    /// Verifies by `authenticator`; what waits gives up at `stop`.
    pub(super) fn new(
        authenticator: Authenticator,
        settings: ConfigWatch,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            authenticator,
            settings,
            clock,
            brake: Mutex::default(),
            turns: Semaphore::new(VERIFICATIONS),
            stop,
        }
    }

    /// The verdict on an attempt of `client`, as of the settings in force when it is looked at.
    pub(super) async fn verify(self: &Arc<Self>, attempt: Attempt, client: IpAddr) -> Verdict {
        let mut has_waited = false;
        let (_turn, settings) = loop {
            if !has_waited {
                match self.wait(client).await {
                    Waited::No => {}
                    Waited::Enough => has_waited = true,
                    Waited::InVain => return Verdict::Unseen,
                }
            }
            let settings = self.settings();
            if let Some(login) = self.authenticator.recall(&settings, &attempt) {
                return Verdict::Right(login);
            }
            let Ok(turn) = self.turns.acquire().await else {
                return Verdict::Unseen;
            };
            // Others of its network may have failed while it stood in line.
            if has_waited || self.brake().is_free(client, self.clock.monotonic()) {
                break (turn, settings);
            }
        };
        let logins = Arc::clone(self);
        let verified = spawn_blocking(move || logins.authenticator.verify(&settings, &attempt));
        match verified.await.unwrap_or(None) {
            Some(login) => Verdict::Right(login),
            None => {
                self.brake().failed(client, self.clock.monotonic());
                Verdict::Wrong
            }
        }
    }

    /// Waits as the failures of the client's network have it.
    async fn wait(&self, client: IpAddr) -> Waited {
        let passage = self.brake().enter(client, self.clock.monotonic());
        let delay: Duration = match passage {
            Passage::Free => return Waited::No,
            Passage::After(delay) => delay,
            Passage::Refused => return Waited::InVain,
        };
        let stopped = timeout(delay, self.stop.cancelled()).await.is_ok();
        self.brake().waited(client);
        if stopped {
            return Waited::InVain;
        }
        Waited::Enough
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    fn brake(&self) -> MutexGuard<'_, Brake> {
        self.brake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use futures::future::join_all;
    use tokio::{sync::watch, time::Instant};

    use super::*;
    use crate::config::sample;

    struct Paused(Instant);

    impl Clock for Paused {
        fn wall(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    struct World {
        logins: Arc<Logins>,
        clock: Arc<Paused>,
        stop: CancellationToken,
        _settings: watch::Sender<Arc<Settings>>,
    }

    impl World {
        #[expect(clippy::disallowed_methods, reason = "this is a Clock for tests")]
        fn new() -> Self {
            let (sender, settings) = watch::channel(Arc::new(sample::settings()));
            let authenticator = Authenticator::new(hmac::Key::new(hmac::HMAC_SHA256, b"test"));
            let clock = Arc::new(Paused(Instant::now()));
            let stop = CancellationToken::new();
            let ports: Arc<dyn Clock> = Arc::clone(&clock) as _;
            Self {
                logins: Arc::new(Logins::new(authenticator, settings, ports, stop.clone())),
                clock,
                stop,
                _settings: sender,
            }
        }

        /// The verdict on a password of ann's, `None` where it is right, and the seconds it took.
        async fn login(&self, password: &str, client: &str) -> (Option<Verdict>, u64) {
            let before = self.clock.monotonic();
            let attempt = Attempt {
                username: "ann".into(),
                password: password.into(),
            };
            let verdict = self.logins.verify(attempt, client.parse().unwrap()).await;
            let took = self.clock.monotonic() - before;
            let wrong = (!matches!(verdict, Verdict::Right(_))).then_some(verdict);
            (wrong, took.as_secs())
        }

        /// How many of so many attempts at once were looked at.
        async fn guess(&self, times: usize, client: &str) -> usize {
            let attempts = (0..times).map(|_| self.login("x", client));
            let verdicts = join_all(attempts).await;
            let seen = verdicts
                .iter()
                .filter(|(verdict, _)| *verdict == Some(Verdict::Wrong));
            seen.count()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_failed_too_often_waits_and_nobody_else() {
        let world = World::new();
        assert_eq!(world.login("secret", "192.0.2.1").await, (None, 0));
        assert_eq!(world.guess(10, "192.0.2.1").await, 10);
        // Also a password that was verified before is compared after the delay only.
        assert_eq!(world.login("secret", "192.0.2.1").await, (None, 1));
        let wrong = Some(Verdict::Wrong);
        assert_eq!(world.login("x", "192.0.2.1").await, (wrong, 1));
        assert_eq!(world.login("secret", "192.0.2.1").await, (None, 2));
        assert_eq!(world.login("secret", "192.0.2.2").await, (None, 0));
        assert_eq!(world.login("secret", "2001:db8::1").await, (None, 0));
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(world.login("secret", "192.0.2.1").await, (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_get_no_further() {
        let world = World::new();
        let seen = world.guess(200, "192.0.2.1").await;
        // 10 are free, 3 more may be under way with the last of them, and 16 may wait.
        assert!((26..=29).contains(&seen), "{seen}");
        assert_eq!(world.guess(200, "192.0.2.1").await, 16);
        assert_eq!(world.login("secret", "192.0.2.1").await, (None, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waits() {
        let world = World::new();
        world.guess(200, "192.0.2.1").await;
        let waiting = world.login("secret", "192.0.2.1");
        let stopped = async {
            tokio::time::advance(Duration::from_secs(3)).await;
            world.stop.cancel();
        };
        let (verdict, ()) = tokio::join!(waiting, stopped);
        assert_eq!(verdict, (Some(Verdict::Unseen), 3));
        assert_eq!(world.login("secret", "192.0.2.2").await, (None, 0));
    }
}
