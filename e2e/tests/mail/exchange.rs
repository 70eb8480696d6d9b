//! Mail of a claim: the application that sends it, who receives it, and what judges say of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postrider_e2e::{
    cluster::{Cache, receivers},
    peers::{
        self, Case, Client, Judge, Outcome, Postfix, PostfixConfig, Reply, Submission, Tls,
        Verdict, dns::Zone, sink::Transaction,
    },
};

use crate::support::{BOUND, PASSWORD, POOL, Stage};

impl Stage {
    /// An application's client of the pool.
    pub(crate) async fn client(&self) -> Client {
        let service = self.get("Service", POOL).await;
        let secret = self.get("Secret", &format!("{POOL}-tls")).await;
        let authority = secret["data"]["ca.crt"].as_str().expect("an authority");
        let file = self.directory.path().join("ca.pem");
        std::fs::write(&file, STANDARD.decode(authority).expect("base64")).expect("written");
        Client {
            host: format!("{POOL}.{}.svc", self.name),
            address: service["spec"]["clusterIP"].as_str().map(str::to_owned),
            port: 587,
            tls: Tls::StartTls,
            ca_file: Some(file),
            user: Some(self.name.to_owned()),
            password: PASSWORD.to_owned(),
        }
    }

    /// A message of the domain to somebody at the receiver.
    pub(crate) fn message(&self, to: &str, subject: &str) -> Submission {
        Submission {
            from: format!("app@{}", self.domain()),
            to: format!("{to}@to-{}.example", self.name),
            subject: subject.to_owned(),
            body: "Good day.\n\n.A dot.\n".to_owned(),
            headers: BTreeMap::new(),
        }
    }

    /// Sends a message, which must be taken.
    pub(crate) async fn send(&self, to: &str, subject: &str) -> Reply {
        let message = self.message(to, subject);
        let replies = self.client().await.send(&[message]).await;
        let reply = replies.expect("a session").remove(0);
        assert!(reply.accepted, "{reply:?}");
        reply
    }

    /// Waits until the receiver has taken the message that `reply` answers.
    pub(crate) async fn delivered(&self, reply: &Reply) -> Transaction {
        let is = |one: &Transaction| one.accepted() && message_id(one) == reply.message_id;
        let taken = self.sink.wait_for(BOUND, |all| all.iter().any(is)).await;
        let taken = taken.expect("delivered");
        taken.into_iter().find(is).expect("just seen")
    }

    /// What independent judges say of what the receiver took, a verdict on each.
    pub(crate) async fn judged(&self, taken: &[Transaction]) -> Vec<Verdict> {
        let nameserver = self.cluster.dns().address();
        let case = |one: &Transaction| one.case(nameserver).expect("a stored message");
        let cases = taken.iter().map(case);
        self.verdicts(&cases.collect::<Vec<_>>()).await
    }

    /// What independent judges say of `cases`.
    pub(crate) async fn verdicts(&self, cases: &[Case]) -> Vec<Verdict> {
        let judge = Judge::prepare(&Cache::of_user().expect("a cache")).await;
        let verdicts = judge.expect("a judge").verify(cases).await;
        verdicts.expect("verdicts")
    }

    /// A Postfix with OpenDKIM and a mailbox `ada@postfix-NAME.example`, with its state in
    /// `directory`, on the `nth` address.
    pub(crate) async fn postfix(&self, directory: &Path, nth: usize) -> Postfix {
        let address = IpAddr::V4(receivers().nth(nth).expect("an address"));
        let zone = format!("postfix-{}.example", self.name);
        let host = format!("mx.{zone}");
        let records = Zone::new(&zone).mx("@", 10, &host).address("mx", address);
        let dns = self.cluster.dns();
        let served = dns.put_zone(&zone, records.records()).await;
        served.expect("served");
        let programs = peers::Programs::ready(&Cache::of_user().expect("a cache")).await;
        let config = PostfixConfig {
            listen: SocketAddr::new(address, 25),
            hostname: host,
            recipients: vec![format!("ada@{zone}")],
            domains: vec![zone],
            nameserver: dns.address(),
        };
        let started = Postfix::start(directory, &programs.expect("programs"), &config).await;
        started.expect("a Postfix")
    }
}

/// Asserts that both signatures, SPF and DMARC pass.
pub(crate) fn passes(verdict: &Verdict) {
    let mut passed: Vec<_> = verdict
        .dkim
        .iter()
        .filter(|one| one.result == Outcome::Pass)
        .map(|one| one.algorithm.as_str())
        .collect();
    passed.sort_unstable();
    assert_eq!(passed, ["ed25519-sha256", "rsa-sha256"], "{verdict:?}");
    assert_eq!(verdict.spf.result, Outcome::Pass, "{verdict:?}");
    assert_eq!(verdict.dmarc.result, Outcome::Pass, "{verdict:?}");
}

/// The Message-ID of what a receiver took; empty when it has none.
pub(crate) fn message_id(taken: &Transaction) -> String {
    let Some(path) = &taken.message else {
        return String::new();
    };
    let text = std::fs::read_to_string(path).expect("a stored message");
    let field = text
        .lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix("Message-ID:"));
    field.unwrap_or_default().trim().to_owned()
}
