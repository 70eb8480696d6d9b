//! The judges pass what is right and only that: each way of being wrong gets its own verdict.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use postrider_e2e::{
    cluster::Cache,
    peers::{
        Case, Judge, Outcome, SignOrder, SigningKey, StopOnDrop, Verdict,
        dns::{Nameserver, Zone},
        loopback,
    },
};

/// One message and what is to be said of it.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    /// The From domain.
    author: &'static str,
    mail_from: &'static str,
    /// The last octet of the client's address; the domains allow 1.
    client: u8,
    signed: Signed,
    body: &'static str,
    nameserver: SocketAddr,
    dkim: &'static [Outcome],
    spf: Outcome,
    dmarc: Outcome,
    aligned_by: &'static [&'static str],
}

/// By whom a message is signed.
#[derive(Clone, Copy)]
enum Signed {
    /// By the author's two keys.
    Both,
    /// By another domain's key.
    Foreign,
    /// By a selector that is not published.
    Unpublished,
    /// By a key that is not the one published.
    WrongKey,
    Nothing,
}

struct Keys {
    rsa: SigningKey,
    ed25519: SigningKey,
    other: SigningKey,
}

const BODY: &str = "Hello.\r\n";

fn zones(keys: &Keys) -> Vec<Zone> {
    let spf = "v=spf1 ip4:192.0.2.1 -all";
    vec![
        Zone::new("shop.test")
            .txt("bounce", spf)
            .txt("r1._domainkey", keys.rsa.record())
            .txt("e1._domainkey", keys.ed25519.record())
            .txt(
                "_dmarc",
                "v=DMARC1; p=reject; sp=quarantine; rua=mailto:r@shop.test",
            ),
        Zone::new("strict.test")
            .txt("bounce", spf)
            .txt("_dmarc", "v=DMARC1; p=reject; adkim=s; aspf=s"),
        Zone::new("bare.test"),
        Zone::new("esp.test")
            .txt("@", spf)
            .txt("r1._domainkey", keys.rsa.record()),
        Zone::new("typo.test").txt("_dmarc", "v=DMARC1; p=refuse"),
    ]
}

#[rustfmt::skip]
fn rows(nameserver: SocketAddr, silent: SocketAddr) -> Vec<Row> {
    use Outcome::{Fail, None, Pass, PermError, TempError};
    let good = Row {
        name: "good",
        author: "shop.test",
        mail_from: "x@bounce.shop.test",
        client: 1,
        signed: Signed::Both,
        body: BODY,
        nameserver,
        dkim: &[Pass, Pass],
        spf: Pass,
        dmarc: Pass,
        aligned_by: &["dkim", "spf"],
    };
    let tampered = Row { name: "tampered", body: "Hullo.\r\n", dkim: &[Fail, Fail], aligned_by: &["spf"], ..good };
    let unsigned = Row { name: "unsigned", signed: Signed::Nothing, dkim: &[], aligned_by: &["spf"], ..good };
    vec![
        good,
        Row { name: "null sender, HELO speaks", mail_from: "", ..good },
        Row { name: "author in a subdomain", author: "eu.shop.test", ..unsigned },
        tampered,
        Row { name: "tampered, from elsewhere", client: 9, spf: Fail, dmarc: Fail, aligned_by: &[], ..tampered },
        Row { name: "wrong key", signed: Signed::WrongKey, dkim: &[Fail], ..unsigned },
        Row { name: "key not published", signed: Signed::Unpublished, dkim: &[PermError], ..unsigned },
        unsigned,
        Row { name: "from elsewhere", client: 9, spf: Fail, aligned_by: &["dkim"], ..good },
        Row { name: "missing SPF", mail_from: "x@bare.test", spf: None, aligned_by: &["dkim"], ..good },
        Row { name: "another's domain", mail_from: "x@esp.test", signed: Signed::Foreign, dkim: &[Pass], dmarc: Fail, aligned_by: &[], ..good },
        Row { name: "strict, a subdomain", author: "strict.test", mail_from: "x@bounce.strict.test", dmarc: Fail, aligned_by: &[], ..unsigned },
        Row { name: "no DMARC record", author: "bare.test", dmarc: None, aligned_by: &[], ..unsigned },
        Row { name: "broken DMARC record", author: "typo.test", dmarc: PermError, aligned_by: &[], ..unsigned },
        Row { name: "name server away", nameserver: silent, dkim: &[TempError, TempError], spf: TempError, dmarc: TempError, aligned_by: &[], ..good },
    ]
}

#[tokio::test]
async fn every_way_of_being_wrong_has_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let _end = StopOnDrop(dir.path().to_owned());
    let cache = Cache::of_user().unwrap();
    let judge = Judge::prepare(&cache).await.unwrap();
    let keys = Keys {
        rsa: SigningKey::rsa().unwrap(),
        ed25519: SigningKey::ed25519().unwrap(),
        other: SigningKey::rsa().unwrap(),
    };
    let listen = SocketAddr::from((loopback(53), 53));
    let silent = SocketAddr::from((loopback(54), 53));
    let rows = rows(listen, silent);
    let orders: Vec<_> = rows.iter().map(|row| order(&keys, row)).collect();
    let signed = judge.sign(&orders).await.unwrap();
    let cases: Vec<_> = rows
        .iter()
        .zip(signed)
        .map(|(row, signed)| case(row, signed, dir.path()))
        .collect();
    let zones = zones(&keys);
    let nameserver = Nameserver::start(dir.path(), &cache, listen, &zones)
        .await
        .unwrap();
    let verdicts = judge.verify(&cases).await;
    nameserver.stop().await.unwrap();
    let verdicts = verdicts.unwrap();
    let faults: Vec<_> = rows
        .iter()
        .zip(&verdicts)
        .filter(|(row, verdict)| !agrees(row, verdict))
        .map(|(row, verdict)| format!("{}: {verdict:#?}", row.name))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let policies: Vec<_> = verdicts.iter().map(|one| &one.dmarc.policy).collect();
    assert_eq!(policies[..3], ["reject", "reject", "quarantine"]);
    let dkim = &verdicts[0].dkim;
    let algorithms: Vec<_> = dkim.iter().map(|one| one.algorithm.as_str()).collect();
    assert_eq!(algorithms, ["rsa-sha256", "ed25519-sha256"]);
}

fn order(keys: &Keys, row: &Row) -> SignOrder {
    let author = row.author;
    let message = format!(
        "From: A <a@{author}>\r\nTo: b@to.test\r\nSubject: s\r\n\
         Date: Wed, 25 Nov 2026 03:00:00 +0000\r\nMessage-ID: <1@{author}>\r\n\r\n{BODY}"
    );
    let signatures = match row.signed {
        Signed::Both => vec![
            keys.rsa.signature(author, "r1"),
            keys.ed25519.signature(author, "e1"),
        ],
        Signed::Foreign => vec![keys.rsa.signature("esp.test", "r1")],
        Signed::Unpublished => vec![keys.rsa.signature(author, "r9")],
        Signed::WrongKey => vec![keys.other.signature(author, "r1")],
        Signed::Nothing => Vec::new(),
    };
    SignOrder {
        message,
        signatures,
    }
}

fn case(row: &Row, signed: Vec<u8>, dir: &Path) -> Case {
    let signed = String::from_utf8(signed).unwrap();
    let path = dir.join(format!("{}.eml", row.name));
    std::fs::write(&path, signed.replace(BODY, row.body)).unwrap();
    Case {
        message: path,
        client_ip: IpAddr::from([192, 0, 2, row.client]),
        helo: "bounce.shop.test".to_owned(),
        mail_from: row.mail_from.to_owned(),
        nameserver: row.nameserver,
    }
}

fn agrees(row: &Row, verdict: &Verdict) -> bool {
    let dkim: Vec<_> = verdict.dkim.iter().map(|one| one.result).collect();
    dkim == row.dkim
        && verdict.spf.result == row.spf
        && verdict.dmarc.result == row.dmarc
        && verdict.dmarc.aligned_by == row.aligned_by
}
