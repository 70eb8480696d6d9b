//! A deadline that moves on more often than it passes.
//!
//! Promises: never rings early, and moving the deadline on costs nothing: the timer below stays as
//! it is until it fires, and is set anew only then, or for an earlier deadline.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::Clock;

/// One wait's alarm. Made where the deadline is kept, asked whenever there is nothing else to do.
#[derive(Debug, Default)]
pub struct Alarm {
    timer: Option<Timer>,
}

#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// For when it was set, in monotonic time.
    set_for: Duration,
}

impl Alarm {
    /// Ready once `deadline` has passed on `clock`; else the task is woken when it has.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        clock: &dyn Clock,
        deadline: Duration,
    ) -> Poll<()> {
        loop {
            let timer = match &mut self.timer {
                Some(timer) if timer.set_for <= deadline => timer,
                _ => self.timer.insert(Timer {
                    sleep: Box::pin(sleep(deadline.saturating_sub(clock.monotonic()))),
                    set_for: deadline,
                }),
            };
            ready!(timer.sleep.as_mut().poll(context));
            self.timer = None;
            if clock.monotonic() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn wall(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    async fn ring(alarm: &mut Alarm, clock: &Paused, seconds: u64) -> u64 {
        let deadline = Duration::from_secs(seconds);
        poll_fn(|context| alarm.poll(context, clock, deadline)).await;
        clock.monotonic().as_secs()
    }

    /// Asks once, without waiting.
    async fn ask(alarm: &mut Alarm, clock: &Paused, seconds: u64) -> bool {
        let deadline = Duration::from_secs(seconds);
        poll_fn(|context| Poll::Ready(alarm.poll(context, clock, deadline).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "this is a Clock for tests")]
    async fn it_rings_at_the_last_deadline_given_be_it_later_or_earlier() {
        let clock = Paused(tokio::time::Instant::now());
        let mut alarm = Alarm::default();
        assert!(!ask(&mut alarm, &clock, 10).await);
        assert_eq!(ring(&mut alarm, &clock, 30).await, 30);
        assert!(!ask(&mut alarm, &clock, 100).await);
        assert_eq!(ring(&mut alarm, &clock, 40).await, 40);
        assert!(
            ask(&mut alarm, &clock, 40).await,
            "a deadline that has passed"
        );
    }
}
