//! Which contender meets which profile, and in which order: in turn, A B A B, so that what changes
//! on the machine meanwhile changes for all.

use std::time::{Duration, Instant};

use crate::{
    bout::{Pace, bout, syncs},
    clock,
    contenders::{Contender, Dkim},
    error::{Error, OnSocket as _},
    load::{Connection, Load, Until, send},
    measure::sync_time,
    profile::{Profile, Variant},
    progress::Progress,
    report::OURS,
    results::{Entrant, Results},
    world::{SENDER, Site, World},
};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rounds of each bout; the median counts.
    pub rounds: usize,
    /// How long a load lasts.
    pub time: Duration,
    /// What everyone meets.
    pub shared: Vec<Profile>,
    /// What only we meet, or who signs where it is signed.
    pub ours: Vec<Profile>,
    /// No bout of [`Plan::ours`] begins after that time.
    pub budget: Duration,
    /// How long a load lasts in the profile [`Variant::Sustained`].
    pub sustained: Duration,
    /// Syncs of which profiles are counted with `strace`.
    pub traced: Vec<Profile>,
}

impl Plan {
    /// The main profile against Postfix, and what else of ours fits into five minutes.
    pub fn quick() -> Self {
        let small = Profile {
            kib: 2,
            ..Profile::MAIN
        };
        let with = |variant| Profile::MAIN.with(variant);
        Self {
            rounds: 3,
            time: Duration::from_secs(6),
            shared: vec![Profile::MAIN],
            ours: vec![
                small,
                with(Variant::Signed(Dkim::Rsa2048)),
                with(Variant::Half),
                with(Variant::Signed(Dkim::Ed25519)),
            ],
            budget: QUICK_BUDGET,
            sustained: Duration::ZERO,
            traced: Vec::new(),
        }
    }

    /// Everything.
    pub fn full(rounds: usize, time: Duration) -> Self {
        let sized = |kib, sessions| Profile {
            kib,
            sessions,
            variant: Variant::Plain,
        };
        let with = |variant| Profile::MAIN.with(variant);
        Self {
            rounds,
            time,
            shared: vec![
                Profile::MAIN,
                sized(2, 20),
                sized(100, 20),
                sized(10, 100),
                with(Variant::PerMessage),
                with(Variant::OneSlow),
            ],
            ours: vec![
                with(Variant::Signed(Dkim::Rsa2048)),
                with(Variant::Signed(Dkim::Ed25519)),
                with(Variant::Half),
                with(Variant::Secured),
                sized(2, 100),
                sized(100, 100),
            ],
            budget: FULL_BUDGET,
            sustained: Duration::ZERO,
            traced: vec![Profile::MAIN, sized(10, 100)],
        }
    }

    /// One profile, for all who can. At half the full rate it is for ours only, after the profile
    /// that tells the full one.
    pub fn one(profile: Profile, rounds: usize, time: Duration) -> Self {
        let (shared, ours) = match profile.variant {
            Variant::Half => (profile.with(Variant::Plain), vec![profile]),
            _ => (profile, Vec::new()),
        };
        Self {
            rounds,
            time,
            shared: vec![shared],
            ours,
            budget: FULL_BUDGET,
            sustained: Duration::ZERO,
            traced: vec![shared],
        }
    }

    /// Bouts at most, for the progress shown.
    pub fn bouts(&self, contenders: usize) -> usize {
        let rounds = self.rounds * (self.shared.len() * contenders + self.ours.len());
        rounds + self.traced.len() * contenders + CEILINGS.len()
    }
}

/// When `make bench QUICK=1` begins nothing new: 40 seconds before five minutes are over.
const QUICK_BUDGET: Duration = Duration::from_secs(260);
/// The same of `make bench`, which has an hour: long queues take a quarter of it.
const FULL_BUDGET: Duration = Duration::from_secs(2700);
/// How long a bout with `strace` lasts.
const TRACED: Duration = Duration::from_secs(3);
/// How long source straight into sink is measured.
const CEILING: Duration = Duration::from_secs(2);
/// In which profiles.
const CEILINGS: [Profile; 3] = [
    Profile::MAIN,
    Profile {
        sessions: 100,
        ..Profile::MAIN
    },
    Profile::MAIN.with(Variant::PerMessage),
];

/// A run under way.
pub struct Run<'a> {
    world: &'a World,
    plan: &'a Plan,
    progress: &'a Progress,
    began: Instant,
    /// What it gave so far.
    pub results: Results,
}

impl<'a> Run<'a> {
    /// A run in `world`, told to `progress`.
    pub fn new(world: &'a World, plan: &'a Plan, progress: &'a Progress) -> Self {
        Self {
            world,
            plan,
            progress,
            began: clock::now(),
            results: Results::default(),
        }
    }

    /// Measures the machine: its disk, and source straight into sink.
    ///
    /// # Errors
    /// When the disk cannot be written or a socket fails.
    pub fn machine(&mut self) -> Result<(), Error> {
        self.results.sync_time = sync_time(self.world.dir())?;
        for profile in CEILINGS {
            let rate = ceiling(self.world, profile)?;
            self.progress.done(&format!(
                "source straight into sink, {}: {rate:.0} msg/s",
                profile.title()
            ));
            self.results.ceilings.push((profile, rate));
        }
        Ok(())
    }

    /// Lets all contenders meet the shared profiles in turn, then ours the rest.
    ///
    /// # Errors
    /// When ours fails. A peer that fails is out, and the results say why.
    pub fn all(&mut self, contenders: &[Box<dyn Contender>]) -> Result<(), Error> {
        for contender in contenders {
            self.results.entrants.push(Entrant {
                key: contender.key(),
                name: contender.name(),
                setting: contender.setting(),
            });
        }
        for profile in &self.plan.shared {
            self.rounds(contenders, *profile)?;
        }
        for profile in &self.plan.ours {
            let signed = profile.dkim();
            let peers = signed != Dkim::Off;
            let meets = |c: &dyn Contender| c.key() == OURS || peers && c.signs(signed);
            for _ in 0..self.plan.rounds {
                for contender in contenders.iter().filter(|c| meets(c.as_ref())) {
                    self.once(contender.as_ref(), *profile)?;
                }
            }
        }
        for profile in &self.plan.traced {
            for contender in contenders {
                self.trace(contender.as_ref(), *profile)?;
            }
        }
        Ok(())
    }

    /// Lets ours and Postfix carry a load for minutes, once.
    ///
    /// # Errors
    /// As those of [`Run::all`].
    pub fn sustained(&mut self, contenders: &[Box<dyn Contender>]) -> Result<(), Error> {
        let profile = Profile::MAIN.with(Variant::Sustained);
        for contender in contenders {
            if [OURS, "postfix"].contains(&contender.key()) {
                self.once(contender.as_ref(), profile)?;
            }
        }
        Ok(())
    }

    fn rounds(&mut self, contenders: &[Box<dyn Contender>], profile: Profile) -> Result<(), Error> {
        for _ in 0..self.plan.rounds {
            for contender in contenders.iter().filter(|c| c.signs(profile.dkim())) {
                self.once(contender.as_ref(), profile)?;
            }
        }
        Ok(())
    }

    fn once(&mut self, contender: &dyn Contender, profile: Profile) -> Result<(), Error> {
        if self.is_out(contender) || self.began.elapsed() > self.plan.budget {
            return Ok(());
        }
        self.progress
            .now(&format!("{}, {}", contender.name(), profile.title()));
        let time = match profile.variant {
            Variant::Sustained => self.plan.sustained,
            _ => self.plan.time,
        };
        let plain = self
            .results
            .medians(contender.key(), profile.with(Variant::Plain));
        let rate = plain.map(|plain| plain.rate / 2.0);
        let rate = rate.filter(|_| profile.variant == Variant::Half);
        match bout(contender, self.world, (profile, Pace { time, rate })) {
            Ok(sample) => {
                self.progress.done(&format!(
                    "{}, {}: {:.0} msg/s, {:.2} CPU s per 1,000, p99 {:.1} ms, {} lost",
                    contender.name(),
                    profile.title(),
                    sample.rate,
                    sample.cpu,
                    sample.p99,
                    sample.account.lost()
                ));
                self.results.add(contender.key(), profile, sample);
                Ok(())
            }
            Err(error) => self.out(contender, error),
        }
    }

    fn trace(&mut self, contender: &dyn Contender, profile: Profile) -> Result<(), Error> {
        let counted = self.results.medians(contender.key(), profile);
        let counted = counted.is_some_and(|medians| medians.syncs.is_some());
        if self.is_out(contender) || counted || !contender.signs(profile.dkim()) {
            return Ok(());
        }
        self.progress
            .now(&format!("{}, counting syncs", contender.name()));
        let pace = Pace {
            time: TRACED,
            rate: None,
        };
        match syncs(contender, self.world, (profile, pace)) {
            Ok(Some(syncs)) => {
                let name = contender.name();
                self.progress
                    .done(&format!("{name}: {syncs:.2} syncs a message"));
                self.results.syncs.insert((contender.key(), profile), syncs);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => self.out(contender, error),
        }
    }

    fn is_out(&self, contender: &dyn Contender) -> bool {
        let name = contender.name();
        self.results
            .absent
            .iter()
            .any(|(absent, _)| *absent == name)
    }

    /// Notes that a peer cannot go on; fails when it is not a peer.
    fn out(&mut self, contender: &dyn Contender, error: Error) -> Result<(), Error> {
        if contender.key() == OURS {
            return Err(error);
        }
        self.progress
            .done(&format!("{} is out: {error}", contender.name()));
        self.results
            .absent
            .push((contender.name(), error.to_string()));
        Ok(())
    }
}

/// The rate of source straight into sink.
fn ceiling(world: &World, profile: Profile) -> Result<f64, Error> {
    world.clear(0);
    let load = Load {
        target: world.receiver(Site::Fast),
        sessions: profile.sessions,
        size: profile.kib * 1024,
        first: 0,
        sender: SENDER.to_owned(),
        domains: profile.domains(),
        until: Until::Elapsed(CEILING),
        connection: profile.connection(),
        rate: None,
        login: None,
    };
    debug_assert!(
        profile.connection() == Connection::Reused || profile.variant == Variant::PerMessage
    );
    let sent = send(&load).at(|| "source straight into sink".to_owned())?;
    Ok(sent.rate())
}
