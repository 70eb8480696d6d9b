//! DKIM key records (RFC 6376, RFC 8463), against dkimpy on a message signed with the key.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postrider_crds::{
    RecordState::{Conflict, Mismatch, Missing, Unknown, Verified},
    relay_config::KeyAlgorithm,
};
use postrider_e2e::peers::{
    Outcome::{Fail, Pass, PermError, TempError},
    SigningKey,
    dns::Zone,
};
use postrider_operator::dns::dkim::{PublicKey, check};

use super::support::{Mail, REFUSED, Row, Table, World, compare};

/// The record's name in the row's zone.
const NAME: &str = "s1._domainkey";

struct Keys {
    rsa: SigningKey,
    other: SigningKey,
    ed25519: SigningKey,
}

/// The `p=` of a key's record.
fn public(key: &SigningKey) -> &str {
    key.record().rsplit_once("p=").unwrap().1
}

/// The record of the key.
fn text(text: String) -> impl Fn(Zone) -> Zone {
    move |zone| zone.txt(NAME, &text)
}

/// An Ed25519 key as a SubjectPublicKeyInfo (RFC 8410), which RFC 8463 does not ask for.
fn wrapped(key: &SigningKey) -> String {
    let head = [
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    let mut spki = head.to_vec();
    spki.extend(STANDARD.decode(public(key)).unwrap());
    STANDARD.encode(spki)
}

/// The text folded as some zone editors do it.
fn folded(text: &str) -> String {
    let lines: Vec<_> = text.as_bytes().chunks(64).collect();
    let lines = lines.into_iter().map(|line| String::from_utf8_lossy(line));
    lines.collect::<Vec<_>>().join(" ")
}

/// The strings of a record, cut at odd places.
fn cut(text: &str) -> String {
    let parts = text.as_bytes().chunks(77);
    let quoted = parts.map(|part| format!("\"{}\"", String::from_utf8_lossy(part)));
    quoted.collect::<Vec<_>>().join(" ")
}

#[rustfmt::skip]
fn table(keys: &Keys) -> Table {
    let mut table = Table::new('k');
    let p = public(&keys.rsa).to_owned();
    let lenient = "dkimpy does not look at this tag; RFC 6376 section 3.6.1 tells verifiers to";
    table.add("as wanted", Verified, Pass, text(keys.rsa.record().to_owned()));
    table.add("no version", Verified, Pass, text(format!("k=rsa; p={p}")));
    table.add("no kind", Verified, Pass, text(format!("v=DKIM1; p={p}")));
    table.add("no spaces", Verified, Pass, text(format!("v=DKIM1;k=rsa;p={p}")));
    table.add("a last semicolon", Verified, Pass, text(format!("v=DKIM1; k=rsa; p={p};")));
    table.add("a note", Verified, Pass, text(format!("v=DKIM1; k=rsa; n=ours; p={p}")));
    table.add("an unknown tag", Verified, Pass, text(format!("v=DKIM1; k=rsa; zz=1; p={p}")));
    table.add("its hashes named", Verified, Pass, text(format!("v=DKIM1; h=sha1:sha256; k=rsa; p={p}")));
    table.add("for mail", Verified, Pass, text(format!("v=DKIM1; k=rsa; s=email; p={p}")));
    table.add("strict about subdomains", Verified, Pass, text(format!("v=DKIM1; k=rsa; t=s; p={p}")));
    table.add("a folded key", Verified, Pass, text(format!("v=DKIM1; k=rsa; p={}", folded(&p))));
    table.add("cut at odd places", Verified, Pass, |zone| zone.record(NAME, "TXT", &cut(keys.rsa.record())));
    table.add("an alias", Verified, Pass, |zone| zone.record(NAME, "CNAME", "key.away.test."));
    table.add("a chain of aliases", Verified, Pass, |zone| zone.record(NAME, "CNAME", "alias.away.test."));
    table.add("a wildcard", Verified, Pass, |zone| zone.txt("*._domainkey", keys.rsa.record()));
    table.add("nothing", Missing, PermError, |zone| zone);
    table.add("an alias to nothing", Missing, PermError, |zone| zone.record(NAME, "CNAME", "none.away.test."));
    table.add("another key", Mismatch, Fail, text(keys.other.record().to_owned()));
    table.add("revoked", Mismatch, PermError, text("v=DKIM1; k=rsa; p=".to_owned()));
    table.add("no key", Mismatch, PermError, text("v=DKIM1; k=rsa".to_owned()));
    table.add("no base64", Mismatch, PermError, text("v=DKIM1; k=rsa; p=!!!!".to_owned()));
    table.add("half a key", Mismatch, PermError, text(format!("v=DKIM1; k=rsa; p={}", &p[..200])));
    table.add("another version", Mismatch, PermError, text(format!("v=DKIM2; k=rsa; p={p}")));
    table.add("another kind", Mismatch, PermError, text(format!("v=DKIM1; k=ed25519; p={p}")));
    table.add("a wildcard of another kind", Mismatch, PermError, |zone| zone.txt("*", "v=spf1 -all"));
    table.add("no tags", Mismatch, PermError, text("hello".to_owned()));
    table.add("a tag twice", Mismatch, PermError, text(format!("v=DKIM1; k=rsa; p={p}; p={p}")));
    table.add("for another service", Mismatch, PermError, text(format!("v=DKIM1; k=rsa; s=voice; p={p}")));
    table.add("only SHA-1", Mismatch, Pass, text(format!("v=DKIM1; h=sha1; k=rsa; p={p}")));
    table.because(lenient);
    table.add("in testing", Mismatch, Pass, text(format!("v=DKIM1; k=rsa; t=y; p={p}")));
    table.because(lenient);
    table.add("two records", Conflict, Pass, |zone| zone.txt(NAME, keys.rsa.record()).txt(NAME, "hello"));
    table.because("which record a verifier takes is chance");
    table.add("an alias that is refused", Unknown, TempError, |zone| zone.record(NAME, "CNAME", "x.refused.test."));
    table.add("ed25519", Verified, Pass, text(keys.ed25519.record().to_owned()));
    table.add("ed25519 wrapped like RSA", Mismatch, PermError, text(format!("v=DKIM1; k=ed25519; p={}", wrapped(&keys.ed25519))));
    table.add("ed25519 without its kind", Mismatch, PermError, text(format!("v=DKIM1; p={}", public(&keys.ed25519))));
    table
}

#[tokio::test]
async fn dkim_agrees_with_dkimpy() {
    let keys = Keys {
        rsa: SigningKey::rsa().unwrap(),
        other: SigningKey::rsa().unwrap(),
        ed25519: SigningKey::ed25519().unwrap(),
    };
    let table = table(&keys);
    let away = Zone::new("away.test")
        .txt("key", keys.rsa.record())
        .record("alias", "CNAME", "key");
    let world = World::start(62, &table.zones(vec![away, Zone::refused(REFUSED)])).await;
    let rows = &table.rows;
    let mails: Vec<_> = rows
        .iter()
        .map(|row| Mail {
            author: row.zone.origin(),
            return_path: row.zone.origin(),
            client: IpAddr::from([192, 0, 2, 1]),
            signatures: vec![key(row, &keys).signature(row.zone.origin(), "s1")],
        })
        .collect();
    let verdicts = world.judged(&mails).await;
    let mut seen = Vec::new();
    for (row, verdict) in rows.iter().zip(verdicts) {
        let algorithm = match is_ed25519(row) {
            true => KeyAlgorithm::Ed25519,
            false => KeyAlgorithm::RSA2048,
        };
        let bytes = STANDARD.decode(public(key(row, &keys))).unwrap();
        let key = PublicKey::new(algorithm, bytes);
        let (selector, domain) = ("s1".parse().unwrap(), row.zone.origin().parse().unwrap());
        let finding = check(&world.resolver, &selector, &domain, &key).await;
        seen.push((finding, verdict.dkim[0].result));
    }
    world.stop().await;
    compare(rows, &seen);
}

/// The key the row is about.
fn key<'a>(row: &Row, keys: &'a Keys) -> &'a SigningKey {
    match is_ed25519(row) {
        true => &keys.ed25519,
        false => &keys.rsa,
    }
}

fn is_ed25519(row: &Row) -> bool {
    row.name.starts_with("ed25519")
}
