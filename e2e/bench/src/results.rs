//! What a run gave, bout by bout, and the medians of it.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    bout::{Account, Sample},
    measure::median,
    profile::Profile,
};

/// Who was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    /// What its figures are called.
    pub key: &'static str,
    /// Name and version.
    pub name: String,
    /// What about its setting must be known.
    pub setting: &'static str,
}

/// Everything a run gave.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// Who was measured, ours first.
    pub entrants: Vec<Entrant>,
    /// Who was not, and why.
    pub absent: Vec<(String, String)>,
    /// By contender and profile, a sample a round.
    pub samples: BTreeMap<(&'static str, Profile), Vec<Sample>>,
    /// Syncs a message as `strace` counts them.
    pub syncs: BTreeMap<(&'static str, Profile), f64>,
    /// Source straight into sink, messages a second.
    pub ceilings: Vec<(Profile, f64)>,
    /// The median time of a sync on the idle disk.
    pub sync_time: Duration,
    /// What a long queue costs.
    pub backlog: Vec<Backlog>,
}

/// A contender with a long queue.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Who.
    pub key: &'static str,
    /// Messages deferred in its queue.
    pub messages: u64,
    /// Seconds it took to take them.
    pub loading: f64,
    /// Memory of all its processes then, bytes.
    pub memory: f64,
    /// The same before the first message.
    pub memory_empty: f64,
    /// From its start with that queue to the first greeting, seconds.
    pub listening: f64,
    /// From its start to the whole queue in its schedule, seconds; ours only.
    pub scheduled: Option<f64>,
    /// Memory after that start, bytes.
    pub memory_restarted: f64,
    /// Messages that were in its queue before the restart and not after.
    pub missing: u64,
}

/// Medians of the samples of one contender and profile.
#[derive(Debug, Clone)]
pub struct Medians {
    /// See [`Sample::rate`].
    pub rate: f64,
    /// See [`Sample::accept_rate`].
    pub accept_rate: f64,
    /// See [`Sample::cpu`].
    pub cpu: f64,
    /// MiB.
    pub memory: f64,
    /// See [`Sample::written`].
    pub written: f64,
    /// See [`Sample::device`].
    pub device: f64,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// See [`Sample::syncs`], or as `strace` counts them.
    pub syncs: Option<f64>,
}

impl Results {
    /// Notes a sample.
    pub fn add(&mut self, key: &'static str, profile: Profile, sample: Sample) {
        self.samples.entry((key, profile)).or_default().push(sample);
    }

    /// The profiles that were measured, of anyone.
    pub fn profiles(&self) -> Vec<Profile> {
        let mut profiles: Vec<_> = self.samples.keys().map(|(_, profile)| *profile).collect();
        profiles.sort_unstable();
        profiles.dedup();
        profiles
    }

    /// The medians of a contender in a profile.
    pub fn medians(&self, key: &'static str, profile: Profile) -> Option<Medians> {
        let samples = self.samples.get(&(key, profile))?;
        let of = |what: fn(&Sample) -> f64| median(samples.iter().map(what));
        let counted = samples.iter().filter_map(|sample| sample.syncs);
        Some(Medians {
            rate: of(|s| s.rate)?,
            accept_rate: of(|s| s.accept_rate)?,
            cpu: of(|s| s.cpu)?,
            memory: of(|s| s.memory)? / MIB,
            written: of(|s| s.written)?,
            device: of(|s| s.device)?,
            p50: of(|s| s.p50)?,
            p99: of(|s| s.p99)?,
            syncs: median(counted).or_else(|| self.syncs.get(&(key, profile)).copied()),
        })
    }

    /// The account of a contender over all its samples.
    pub fn account(&self, key: &str) -> Account {
        let samples = self.samples.iter().filter(|((k, _), _)| *k == key);
        let accounts = samples.flat_map(|(_, samples)| samples).map(|s| s.account);
        accounts.fold(Account::default(), Account::plus)
    }

    /// Messages lost, of all contenders: those of a backlog too.
    pub fn lost(&self) -> Vec<String> {
        let lost = self.entrants.iter().filter_map(|entrant| {
            let restarted = self.backlog.iter().filter(|b| b.key == entrant.key);
            let missing: u64 = restarted.map(|backlog| backlog.missing).sum();
            let lost = self.account(entrant.key).lost() + missing;
            (lost > 0).then(|| format!("{} lost {lost} accepted messages", entrant.name))
        });
        lost.collect()
    }
}

/// Octets of a MiB.
pub const MIB: f64 = 1_048_576.0;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run of two contenders with the rates given, in the main profile.
    pub(crate) fn of_rates(rates: &[(&'static str, &[f64])]) -> Results {
        let mut results = Results {
            sync_time: Duration::from_micros(500),
            ..Results::default()
        };
        for (key, rates) in rates {
            results.entrants.push(Entrant {
                key,
                name: (*key).to_owned(),
                setting: "none",
            });
            for rate in *rates {
                results.add(key, Profile::MAIN, sample(*rate));
            }
        }
        results
    }

    fn sample(rate: f64) -> Sample {
        Sample {
            account: Account {
                accepted: 10,
                delivered: 10,
                ..Account::default()
            },
            rate,
            accept_rate: rate,
            cpu: 0.5,
            memory: MIB,
            written: 1.2,
            device: 1.4,
            p50: 1.0,
            p99: 2.0,
            syncs: None,
            trouble: None,
        }
    }

    #[test]
    fn medians_are_of_all_rounds() {
        let results = of_rates(&[("a", &[3.0, 1.0, 2.0])]);
        let medians = results.medians("a", Profile::MAIN).unwrap();
        assert!((medians.rate - 2.0).abs() < f64::EPSILON);
        assert!((medians.memory - 1.0).abs() < f64::EPSILON);
        assert_eq!(results.account("a").accepted, 30);
        assert!(results.lost().is_empty());
    }

    #[test]
    fn a_loss_is_told() {
        let mut results = of_rates(&[("a", &[1.0])]);
        let mut bad = sample(1.0);
        bad.account.delivered = 8;
        results.add("a", Profile::MAIN, bad);
        assert_eq!(results.lost(), ["a lost 2 accepted messages"]);
    }
}
