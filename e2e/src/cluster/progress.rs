//! What a person sees while a cluster comes up: each step named, then its time.
//!
//! On a terminal the running step shows a spinner; elsewhere each step is a plain line.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::ProgressBar;

use super::{clock::Stopwatch, error::Error};

/// The display of a sequence of steps.
#[derive(Debug)]
pub struct Progress {
    total: Stopwatch,
    shown: Shown,
}

/// When a step is first said to go on. Most are over by then.
const FIRST_SIGN: Duration = Duration::from_secs(5);
/// How often it is said again: a first build of Kubernetes takes minutes.
const FURTHER_SIGNS: Duration = Duration::from_secs(60);

/// Where the display goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// On a terminal.
    Terminal,
    /// In a file or a pipe: lines.
    Lines,
    /// Nowhere.
    Nowhere,
}

impl Progress {
    /// A display on standard error.
    pub fn start() -> Self {
        let terminal = io::stderr().is_terminal();
        let shown = if terminal {
            Shown::Terminal
        } else {
            Shown::Lines
        };
        Self {
            total: Stopwatch::start(),
            shown,
        }
    }

    /// No display, for tests.
    pub fn nowhere() -> Self {
        Self {
            total: Stopwatch::start(),
            shown: Shown::Nowhere,
        }
    }

    /// Does `work` as the step `name`.
    ///
    /// # Errors
    /// Those of the work, unchanged.
    pub async fn step<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let watch = Stopwatch::start();
        let bar = (self.shown == Shown::Terminal).then(|| {
            let bar = ProgressBar::new_spinner().with_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let result = self.told_when_long(name, work).await;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if self.shown == Shown::Nowhere {
            return result;
        }
        let mark = if result.is_ok() { "ok    " } else { "failed" };
        eprintln!("{mark} {:6.1} s  {name}", watch.elapsed().as_secs_f64());
        result
    }

    /// Does `work`; where there is no spinner, says now and then that it still goes on.
    async fn told_when_long<T>(&self, name: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut after = FIRST_SIGN;
        loop {
            match tokio::time::timeout(after, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) if self.shown == Shown::Lines => eprintln!("...              {name}"),
                Err(_) => {}
            }
            after = FURTHER_SIGNS;
        }
    }

    /// Shows the end of it all and the time taken since the start.
    pub fn done(&self, what: &str) {
        eprintln!("{what} in {:.1} s", self.total.elapsed().as_secs_f64());
    }
}
