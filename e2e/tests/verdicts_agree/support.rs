//! One zone a row, all on one name server; the operator's finding and the judge's verdict of each.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use postrider_crds::RecordState;
use postrider_e2e::{
    cluster::Cache,
    peers::{
        Case, Judge, Matter, Outcome, SignOrder, Signature, StopOnDrop, Verdict,
        dns::{Nameserver, Zone},
        loopback,
    },
};
use postrider_operator::{
    dns::{Finding, HickoryResolver},
    metrics::Metrics,
};

/// The zone that answers nothing.
pub(crate) const REFUSED: &str = "refused.test";

/// A zone with `text` at `owner`.
pub(crate) fn txt(owner: &'static str, text: &'static str) -> impl Fn(Zone) -> Zone {
    move |zone| zone.txt(owner, text)
}

/// A zone and what is to be said of it.
pub(crate) struct Row {
    /// What is odd about it.
    pub(crate) name: &'static str,
    /// The zone, whose origin is the row's own.
    pub(crate) zone: Zone,
    /// The operator's word.
    pub(crate) ours: RecordState,
    /// The judge's word.
    pub(crate) theirs: Outcome,
    /// Why the two words do not mean the same, where they do not.
    pub(crate) differs: Option<&'static str>,
}

/// Rows, each with a zone of its own.
pub(crate) struct Table {
    prefix: char,
    /// The rows, in the order they were added.
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// An empty table whose zones start with `prefix`.
    pub(crate) fn new(prefix: char) -> Self {
        Self {
            prefix,
            rows: Vec::new(),
        }
    }

    /// Adds a row on which both agree.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        ours: RecordState,
        theirs: Outcome,
        fill: impl Fn(Zone) -> Zone,
    ) {
        let origin = format!("{}{:02}.test", self.prefix, self.rows.len());
        self.rows.push(Row {
            name,
            zone: fill(Zone::new(&origin)),
            ours,
            theirs,
            differs: None,
        });
    }

    /// Adds what is said where there is no record at `owner`, or none to be had.
    pub(crate) fn add_absences(&mut self, owner: &'static str) {
        self.add("nothing", RecordState::Missing, Outcome::None, |zone| zone);
        for (name, ours, theirs, target) in [
            (
                "an alias to nothing",
                RecordState::Missing,
                Outcome::None,
                "none.away.test.",
            ),
            (
                "an alias that is refused",
                RecordState::Unknown,
                Outcome::TempError,
                "x.refused.test.",
            ),
        ] {
            self.add(name, ours, theirs, |zone| {
                zone.record(owner, "CNAME", target)
            });
        }
    }

    /// Says why the words of the last row differ.
    pub(crate) fn because(&mut self, reason: &'static str) {
        self.rows.last_mut().unwrap().differs = Some(reason);
    }

    /// The zones of all rows, and `common` ones.
    pub(crate) fn zones(&self, common: Vec<Zone>) -> Vec<Zone> {
        let own = self.rows.iter().map(|row| row.zone.clone());
        common.into_iter().chain(own).collect()
    }
}

/// Where the rows are served, and by whom they are judged.
pub(crate) struct World {
    dir: tempfile::TempDir,
    _end: StopOnDrop,
    nameserver: Nameserver,
    judge: Judge,
    pub(crate) resolver: HickoryResolver,
}

/// A message for the judge.
pub(crate) struct Mail<'a> {
    /// The From domain.
    pub(crate) author: &'a str,
    /// The envelope sender's domain.
    pub(crate) return_path: &'a str,
    /// Where it comes from.
    pub(crate) client: IpAddr,
    /// How it is signed.
    pub(crate) signatures: Vec<Signature>,
}

impl World {
    /// Serves `zones` on a loopback address of its own, `host` its last octet.
    pub(crate) async fn start(host: u8, zones: &[Zone]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let end = StopOnDrop(dir.path().to_owned());
        let cache = Cache::of_user().unwrap();
        let listen = SocketAddr::from((loopback(host), 53));
        let judge = Judge::prepare(&cache).await.unwrap();
        let nameserver = Nameserver::start(dir.path(), &cache, listen, zones);
        let nameserver = nameserver.await.unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let resolver = HickoryResolver::new(&[listen], metrics).unwrap();
        Self {
            dir,
            _end: end,
            nameserver,
            judge,
            resolver,
        }
    }

    /// The judges' word on each message.
    pub(crate) async fn judged(&self, mails: &[Mail<'_>]) -> Vec<Verdict> {
        let orders: Vec<_> = mails.iter().map(order).collect();
        let signed = self.judge.sign(&orders).await.unwrap();
        let cases = mails.iter().zip(signed).enumerate();
        let cases: Vec<_> = cases
            .map(|(index, (mail, signed))| {
                let message = self.dir.path().join(format!("{index}.eml"));
                std::fs::write(&message, signed).unwrap();
                Case {
                    message,
                    client_ip: mail.client,
                    helo: "mail.elsewhere.test".to_owned(),
                    mail_from: format!("postmaster@{}", mail.return_path),
                    nameserver: self.nameserver.address(),
                }
            })
            .collect();
        self.judge.verify(&cases).await.unwrap()
    }

    /// The judge's word on each matter.
    pub(crate) async fn ruled(&self, matters: &[Matter]) -> Vec<Outcome> {
        let rulings = self.judge.rule(self.nameserver.address(), matters).await;
        rulings
            .unwrap()
            .into_iter()
            .map(|ruling| ruling.result)
            .collect()
    }

    /// Stops what was started.
    pub(crate) async fn stop(self) {
        self.nameserver.stop().await.unwrap();
    }
}

/// Fails with every row on which one side did not say what is to be said, or on which the two do
/// not mean the same and no reason is given.
pub(crate) fn compare(rows: &[Row], seen: &[(Finding, Outcome)]) {
    assert_eq!(rows.len(), seen.len());
    let faults: Vec<String> = rows
        .iter()
        .zip(seen)
        .filter_map(|(row, (ours, theirs))| {
            let expected = row.ours == ours.state && row.theirs == *theirs;
            let agree = means_the_same(ours.state, *theirs) != row.differs.is_some();
            let shown = format!("{}: {ours:?}, the judge: {theirs:?}", row.name);
            (!expected || !agree).then_some(shown)
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a state of a record comes to for a message that depends on it.
fn means_the_same(ours: RecordState, theirs: Outcome) -> bool {
    use Outcome::{Fail, Neutral, None, Pass, PermError, SoftFail, TempError};
    match ours {
        RecordState::Verified => theirs == Pass,
        RecordState::Missing => matches!(theirs, None | PermError),
        RecordState::Unknown => theirs == TempError,
        RecordState::Mismatch | RecordState::Conflict => {
            matches!(theirs, None | Fail | SoftFail | Neutral | PermError)
        }
    }
}

fn order(mail: &Mail<'_>) -> SignOrder {
    let author = mail.author;
    SignOrder {
        message: format!(
            "From: A <a@{author}>\r\nTo: b@to.test\r\nSubject: s\r\n\
             Date: Wed, 25 Nov 2026 03:00:00 +0000\r\nMessage-ID: <1@{author}>\r\n\r\nHello.\r\n"
        ),
        signatures: mail.signatures.clone(),
    }
}
