//! The real receiver takes mail for whom it knows, refuses the rest, and its OpenDKIM tells
//! signatures that verify from those that do not.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use postrider_e2e::{
    cluster::{Cache, wait_for},
    peers::{
        Client, Judge, Outcome, Postfix, PostfixConfig, Programs, Received, SignOrder, SigningKey,
        StopOnDrop, Submission, Tls,
        dns::{Nameserver, Zone},
        loopback,
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// How long a message may take from the reply to the Maildir.
const BOUND: Duration = Duration::from_secs(60);

/// A Postfix on an address of its own with the name server it asks.
struct Receiver {
    nameserver: Nameserver,
    programs: Programs,
    config: PostfixConfig,
    postfix: Postfix,
    _end: [StopOnDrop; 2],
}

impl Receiver {
    async fn start(dir: &Path, host: u8, zone: Zone) -> Self {
        let end = ["dns", "mx"].map(|part| StopOnDrop(dir.join(part)));
        let cache = Cache::of_user().unwrap();
        let address = loopback(host);
        let programs = Programs::ready(&cache).await.unwrap();
        let listen = SocketAddr::from((address, 53));
        let nameserver = Nameserver::start(&dir.join("dns"), &cache, listen, &[zone])
            .await
            .unwrap();
        let config = PostfixConfig {
            listen: SocketAddr::from((address, 25)),
            hostname: "mx.to.test".to_owned(),
            domains: vec!["to.test".to_owned(), "too.test".to_owned()],
            recipients: vec!["b@to.test".to_owned(), "c@too.test".to_owned()],
            nameserver: listen,
        };
        let postfix = Postfix::start(&dir.join("mx"), &programs, &config)
            .await
            .unwrap();
        Self {
            nameserver,
            programs,
            config,
            postfix,
            _end: end,
        }
    }

    /// Starts Postfix anew over the one that runs.
    async fn start_again(mut self, dir: &Path) -> Self {
        self.postfix = Postfix::start(&dir.join("mx"), &self.programs, &self.config)
            .await
            .unwrap();
        self
    }

    fn client(&self, tls: Tls) -> Client {
        Client {
            host: self.postfix.address().ip().to_string(),
            address: None,
            port: self.postfix.address().port(),
            tls,
            ca_file: Some(self.postfix.certificate().to_owned()),
            user: None,
            password: String::new(),
        }
    }

    async fn stop(self) {
        self.postfix.stop().await.unwrap();
        self.nameserver.stop().await.unwrap();
    }
}

fn submission(to: &str) -> Submission {
    Submission {
        from: "app@shop.test".to_owned(),
        to: to.to_owned(),
        subject: "order 1".to_owned(),
        body: "Thank you.\n".to_owned(),
        headers: [("X-Order".to_owned(), "1".to_owned())].into(),
    }
}

#[tokio::test]
async fn known_recipients_are_taken_and_others_refused() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(dir.path(), 31, Zone::new("shop.test")).await;
    let recipients = [
        "b@to.test",
        "nobody@to.test",
        "x@elsewhere.test",
        "c@too.test",
    ];
    let messages = recipients.map(submission);
    let replies = receiver.client(Tls::None).send(&messages).await.unwrap();
    let decided: Vec<_> = replies
        .iter()
        .map(|reply| (reply.command.as_str(), reply.code, reply.id.is_some()))
        .collect();
    let wanted = [
        ("DATA", 250, true),
        ("RCPT", 550, false),
        ("RCPT", 554, false),
        ("DATA", 250, true),
    ];
    assert_eq!(decided, wanted, "{replies:#?}");
    assert!(replies[1].reply.contains("5.1.1"), "{replies:#?}");
    let postfix = &receiver.postfix;
    let mail = postfix.wait_received("b@to.test", 1, BOUND).await.unwrap();
    assert_eq!(mail[0].mail_from, "app@shop.test");
    assert_eq!(mail[0].field("x-order"), ["1"]);
    assert_eq!(
        mail[0].field("Message-ID"),
        [replies[0].message_id.as_str()]
    );
    assert!(mail[0].authentication_results[0].contains("dkim=none"));
    assert!(!mail[0].tls);
    postfix.wait_received("c@too.test", 1, BOUND).await.unwrap();
    assert!(postfix.received("nobody@to.test").unwrap().is_empty());
    receiver.stop().await;
}

#[tokio::test]
async fn starttls_works_and_shows_in_the_mail() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(dir.path(), 32, Zone::new("shop.test")).await;
    let client = receiver.client(Tls::StartTls);
    client.send(&[submission("b@to.test")]).await.unwrap();
    let mail = receiver.postfix.wait_received("b@to.test", 1, BOUND);
    assert!(mail.await.unwrap()[0].tls);
    receiver.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_what_was_received() {
    let dir = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start(dir.path(), 34, Zone::new("shop.test")).await;
    for count in 1..=2 {
        let client = receiver.client(Tls::None);
        client.send(&[submission("b@to.test")]).await.unwrap();
        // A copy stored twice is no loss; each message sent must be there, and no other.
        let mut copies = count;
        let ids = loop {
            let mail = receiver.postfix.wait_received("b@to.test", copies, BOUND);
            let mail = mail.await.unwrap();
            let id = |one: &Received| one.field("Message-ID").concat();
            let ids: BTreeSet<String> = mail.iter().map(id).collect();
            if ids.len() >= count {
                break ids;
            }
            copies = mail.len() + 1;
        };
        assert_eq!(ids.len(), count);
        if count == 1 {
            receiver = receiver.start_again(dir.path()).await;
        }
    }
    receiver.stop().await;
}

#[tokio::test]
async fn opendkim_passes_good_signatures_only_and_the_judges_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (rsa, ed25519) = (SigningKey::rsa().unwrap(), SigningKey::ed25519().unwrap());
    let judge = Judge::prepare(&Cache::of_user().unwrap()).await.unwrap();
    let zone = Zone::new("shop.test")
        .txt("@", "v=spf1 ip4:127.0.0.0/8 -all")
        .txt("r1._domainkey", rsa.record())
        .txt("e1._domainkey", ed25519.record())
        .txt("_dmarc", "v=DMARC1; p=reject");
    let receiver = Receiver::start(dir.path(), 33, zone).await;
    let text = "From: app@shop.test\r\nTo: b@to.test\r\nSubject: signed\r\n\
                Date: Wed, 25 Nov 2026 03:00:00 +0000\r\nMessage-ID: <1@shop.test>\r\n\r\n\
                Hello.\r\n";
    let order = SignOrder {
        message: text.to_owned(),
        signatures: vec![
            rsa.signature("shop.test", "r1"),
            ed25519.signature("shop.test", "e1"),
        ],
    };
    let signed = judge.sign(&[order]).await.unwrap().remove(0);
    let signed = String::from_utf8(signed).unwrap();
    let address = receiver.postfix.address();
    deliver(address, "b@to.test", &signed).await;
    deliver(address, "c@too.test", &signed.replace("Hello", "Hullo")).await;
    let table = [
        ("b@to.test", "dkim=pass", Outcome::Pass, vec!["dkim", "spf"]),
        ("c@too.test", "dkim=fail", Outcome::Fail, vec!["spf"]),
    ];
    for (recipient, opendkim, dkim, aligned_by) in table {
        let mail = receiver.postfix.wait_received(recipient, 1, BOUND);
        let mail = mail.await.unwrap().remove(0);
        let results = &mail.authentication_results;
        assert_eq!(results[0].matches(opendkim).count(), 2, "{results:?}");
        assert!(results[0].starts_with("mx.to.test;"), "{results:?}");
        let case = mail.case(receiver.nameserver.address());
        let verdict = judge.verify(&[case]).await.unwrap().remove(0);
        let judged: Vec<_> = verdict.dkim.iter().map(|one| one.result).collect();
        assert_eq!(judged, [dkim, dkim], "{verdict:#?}");
        assert_eq!(verdict.dmarc.aligned_by, aligned_by, "{verdict:#?}");
    }
    receiver.stop().await;
}

#[tokio::test]
async fn a_verifier_that_dies_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let zone = Zone::new("shop.test").txt("@", "v=spf1 -all");
    let receiver = Receiver::start(dir.path(), 35, zone).await;
    receiver.postfix.kill_verifier().await.unwrap();
    let address = receiver.postfix.address();
    let taken = wait_for("the verifier", BOUND, "-", async || {
        let text = "From: app@shop.test\r\nSubject: not signed\r\n\r\nHello.\r\n";
        Ok(try_deliver(address, "b@to.test", text).await.ok())
    });
    taken.await.unwrap();
    let mail = receiver.postfix.wait_received("b@to.test", 1, BOUND);
    let results = &mail.await.unwrap()[0].authentication_results;
    assert!(results[0].contains("dkim=none"), "{results:?}");
    receiver.stop().await;
}

/// Delivers a message as it is, which a mail library would not.
async fn deliver(address: SocketAddr, recipient: &str, message: &str) {
    let delivered = try_deliver(address, recipient, message).await;
    delivered.unwrap();
}

/// An error is the first reply that is none of success.
async fn try_deliver(address: SocketAddr, recipient: &str, message: &str) -> Result<(), String> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let commands = [
        String::new(),
        "HELO relay.shop.test\r\n".to_owned(),
        "MAIL FROM:<app@shop.test>\r\n".to_owned(),
        format!("RCPT TO:<{recipient}>\r\n"),
        "DATA\r\n".to_owned(),
        format!("{message}.\r\n"),
        "QUIT\r\n".to_owned(),
    ];
    for command in commands {
        stream.write_all(command.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_line(&mut reply).await.unwrap();
        if !reply.starts_with(['2', '3']) {
            return Err(format!("{command}{reply}"));
        }
    }
    Ok(())
}
