//! The demo: from YAML to delivered, signed, verified mail on a real Kubernetes.
//!
//! Its steps, in order: [`ground`] finds a cluster; [`world`] starts receivers and their zones; the
//! product is built and installed; `examples/demo` is applied; one message is sent too early and is
//! held; the records that `postrider records` prints are published; the domain becomes Ready; the
//! other messages are sent by an ordinary client; [`journal`] follows them through the relays'
//! event logs and [`report`] puts beside each what independent judges say of it at the receiver.
//!
//! Promises: every line of the report is something observed; [`run`] is true only if every message
//! did exactly what its [`messages::Fate`] says and every delivered one verifies in every way.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cluster::{Cache, Cluster, Progress, wait_for},
    peers::Judge,
    product::{self, Images, Installation, Kubectl, Programs},
};

mod domain;
mod error;
mod ground;
mod journal;
mod messages;
mod report;
mod submit;
mod world;

pub use error::Error;
use ground::Ground;
use journal::Journal;
use messages::{Message, Sent};
use world::World;

/// The namespace of the examples.
pub(crate) const NAMESPACE: &str = "mail";
/// How long all messages may take to reach their fate: a greylisted one waits for its retry.
const FATE_BOUND: Duration = Duration::from_secs(120);

/// How long what was delivered may take into its mailbox.
const ARRIVAL_BOUND: Duration = Duration::from_secs(30);

/// Where the demo keeps its state.
#[derive(Debug, Clone)]
pub struct Demo {
    directory: PathBuf,
}

impl Demo {
    /// A demo with its state in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Runs it all. True: everything is as it should be.
    ///
    /// # Errors
    /// When a step fails.
    pub async fn run(&self, progress: &Progress) -> Result<bool, Error> {
        let programs = progress
            .step(
                "operator, relay and command, linked statically",
                Programs::ready(),
            )
            .await?;
        let ground = Ground::find(&self.cluster(), &self.peers(), progress).await?;
        let judge = Judge::prepare(&Cache::of_user()?).await?;
        install(&ground, &programs, progress).await?;
        let world = World::start(&self.peers(), &ground).await?;
        progress.done("receivers are up");

        let (kubectl, cli) = (ground.kubectl(), programs.cli());
        let client = submit::apply_examples(&ground, &self.peers(), progress).await?;
        let all = messages::all();
        let mut sent = submit::too_early(&client, &all, progress).await?;
        domain::publish(&ground, &cli, progress).await?;
        sent.extend(submit::the_rest(&client, &all, progress).await?);

        follow(kubectl, &sent, progress).await;
        wait_for_arrivals(&world, &sent, progress).await;
        let journal = Journal::read(kubectl).await?;
        let arrived = world.arrived()?;
        let verdicts = judge
            .verify(&report::cases(&arrived, ground.dns().address()))
            .await?;
        let good = report::print(&sent, &journal, &report::judged(arrived, verdicts));
        look_around(&ground, &cli);
        progress.done(if good {
            "the demo is complete"
        } else {
            "the demo FAILED"
        });
        Ok(good)
    }

    /// Takes down what [`Demo::run`] left up.
    ///
    /// # Errors
    /// When a process does not end.
    pub async fn clean(&self) -> Result<(), Error> {
        world::forget(&self.peers()).await?;
        if !ground::leave_users().await? {
            Cluster::down(&self.cluster()).await?;
        }
        Ok(())
    }

    fn peers(&self) -> PathBuf {
        self.directory.join("peers")
    }

    fn cluster(&self) -> PathBuf {
        self.directory.join("cluster")
    }
}

/// Waits until every message has reached its fate, or the bound is over: a message that does not get
/// there is shown by the report, which says more than a bound.
async fn follow(kubectl: &Kubectl, sent: &[Sent], progress: &Progress) {
    let settled = async {
        let log = format!("kubectl logs -n {NAMESPACE} -l postrider.dev/pool=default");
        wait_for("the fate of every message", FATE_BOUND, &log, async || {
            let journal = Journal::read(kubectl).await?;
            Ok(sent
                .iter()
                .all(|message| message.has_met_its_fate(&journal))
                .then_some(()))
        })
        .await
    };
    let _ = progress
        .step("every message followed to its end", settled)
        .await;
}

/// Waits until as much is in the receivers' mailboxes as is to arrive, or the bound is over: a receiver
/// files a message after it has taken it. The report shows what is missing.
async fn wait_for_arrivals(world: &World, sent: &[Sent], progress: &Progress) {
    let expected = sent.iter().map(|one| one.message.fate.arrivals()).sum();
    let there = wait_for("all mail", ARRIVAL_BOUND, "the receivers", async || {
        let count = world.arrived().map_or(0, |arrived| arrived.len());
        Ok((count >= expected).then_some(()))
    });
    let step = format!("{expected} messages and notifications at their receivers");
    let _ = progress.step(&step, there).await;
}

/// Loads the images and installs the chart, after an earlier run's namespace has gone: its domain
/// is verified already, and this one begins at the beginning.
async fn install(ground: &Ground, programs: &Programs, progress: &Progress) -> Result<(), Error> {
    ground.begin().await?;
    let images = Images::load(programs, async |image| ground.load(&image).await);
    let images = progress.step("images loaded", images).await?;
    let installation = Installation {
        helm: ground.tools().helm(),
        images: &images,
        namespaces: &[NAMESPACE],
        resolver: ground.dns().address(),
    };
    let installed = product::install(ground.kubectl(), &installation);
    progress.step("chart installed", installed).await?;
    Ok(())
}

/// Says how to look at what the demo left up.
fn look_around(ground: &Ground, cli: &Path) {
    let (kubeconfig, cli) = (ground.kubectl().kubeconfig(), cli.display());
    println!("\nThe cluster is up. To look around:\n");
    println!("  export KUBECONFIG={}", kubeconfig.display());
    println!("  export PATH={}", ground.tools().search_path("$PATH"));
    println!("  kubectl get sendingdomains,relaypools,suppressionlists -n {NAMESPACE}");
    println!("  {cli} status -n {NAMESPACE}");
    println!("  {cli} records shop -n {NAMESPACE}");
    println!("  kubectl logs -n {NAMESPACE} default-0");
    println!("\nmake clean takes it down.");
}

/// The messages of `all` that are sent before the domain is verified.
pub(crate) fn is_early(message: &Message) -> bool {
    message.fate == messages::Fate::HeldThenDelivered
}
