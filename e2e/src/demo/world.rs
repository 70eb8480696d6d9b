//! The rest of the world: two receivers with their zones.
//!
//! `mailbox.example` is a Postfix that knows a few people and verifies with OpenDKIM; it is the
//! final destination of `shop.example` too, where notifications of failure come back to.
//! `greylist.example` refuses everybody once. `nomail.example` says it takes no mail (RFC 7505).

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{Error, Ground, ground, messages::FROM};
use crate::{
    cluster::{Cache, error::OnPath as _},
    peers::{
        self, Postfix, PostfixConfig, Programs, Received,
        dns::Zone,
        sink::{Rules, Script, SinkProcess, Transaction},
    },
};

/// The directories of the peers' states.
pub(crate) const PEERS: [&str; 2] = ["postfix", "greylist"];
/// People that the Postfix knows.
const PEOPLE: [&str; 4] = [
    "ada@mailbox.example",
    "barbara@mailbox.example",
    "grace@mailbox.example",
    FROM,
];
/// The Postfix's host name.
const MAILBOX_MX: &str = "mx.mailbox.example";

/// The receivers, running.
#[derive(Debug)]
pub(crate) struct World {
    postfix: Postfix,
    greylist: SinkProcess,
}

/// A message that arrived.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// At the Postfix.
    Mailbox(Received),
    /// At the greylisting receiver.
    Greylist(Transaction),
}

impl World {
    /// Starts the receivers, with nothing received yet, and publishes their zones.
    pub(crate) async fn start(directory: &Path, ground: &Ground) -> Result<Self, Error> {
        forget_some(directory, &PEERS).await?;
        let programs = Programs::ready(&Cache::of_user()?).await?;
        let [mailbox, greylist] = ground.addresses();
        let config = PostfixConfig {
            listen: SocketAddr::new(mailbox, 25),
            hostname: MAILBOX_MX.to_owned(),
            domains: vec!["mailbox.example".to_owned(), "shop.example".to_owned()],
            recipients: PEOPLE.map(str::to_owned).to_vec(),
            nameserver: ground.dns().address(),
        };
        let rules = Rules {
            otherwise: Script::GreylistAttempts { attempts: 1 },
            ..Rules::default()
        };
        let world = Self {
            postfix: Postfix::start(&directory.join("postfix"), &programs, &config).await?,
            greylist: SinkProcess::start(
                &directory.join("greylist"),
                &sink_program(),
                SocketAddr::new(greylist, 25),
                &rules,
            )
            .await?,
        };
        for zone in [
            Zone::new("mailbox.example")
                .mx("@", 10, MAILBOX_MX)
                .address("mx", mailbox),
            Zone::new("greylist.example")
                .mx("@", 10, "mx.greylist.example")
                .address("mx", greylist),
            Zone::new("nomail.example").mx("@", 0, ""),
            sender_zone(),
        ] {
            ground.dns().put_zone(zone.origin(), zone.records()).await?;
        }
        Ok(world)
    }

    /// All that has arrived, anywhere.
    pub(crate) fn arrived(&self) -> Result<Vec<Arrived>, Error> {
        let mut arrived = Vec::new();
        for person in PEOPLE {
            arrived.extend(
                self.postfix
                    .received(person)?
                    .into_iter()
                    .map(Arrived::Mailbox),
            );
        }
        let taken = self
            .greylist
            .transactions()?
            .into_iter()
            .filter(Transaction::accepted);
        arrived.extend(taken.map(Arrived::Greylist));
        Ok(arrived)
    }
}

/// Stops the processes of an earlier run and removes what they kept.
pub(crate) async fn forget(directory: &Path) -> Result<(), Error> {
    forget_some(directory, &PEERS).await?;
    forget_some(directory, &ground::PROCESSES).await
}

async fn forget_some(directory: &Path, names: &[&str]) -> Result<(), Error> {
    for name in names {
        let state = directory.join(name);
        peers::stop(&state).await?;
        if state.exists() {
            fs::remove_dir_all(&state).on("remove", &state)?;
        }
    }
    Ok(())
}

/// The sender's zone before any record of Postrider's is in it.
pub(crate) fn sender_zone() -> Zone {
    Zone::new("shop.example").mx("@", 10, MAILBOX_MX)
}

/// The sink, built beside the running program.
fn sink_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("e2e-sink")
}
