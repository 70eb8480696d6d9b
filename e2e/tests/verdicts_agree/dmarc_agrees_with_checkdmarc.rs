//! DMARC policies (RFC 7489, RFC 9989), against checkdmarc on a message whose SPF and DKIM pass.

use std::net::IpAddr;

use postrider_crds::{
    DmarcPolicy, DomainName,
    RecordState::{Conflict, Mismatch, Missing, Verified},
};
use postrider_e2e::peers::{
    Outcome::{None as Absent, Pass, PermError},
    SigningKey,
    dns::Zone,
};
use postrider_operator::dns::dmarc::{Expectation, check};

use super::support::{Mail, REFUSED, Row, Table, World, compare, txt};

#[rustfmt::skip]
fn table() -> Table {
    let mut table = Table::new('d');
    let text = |text| txt("_dmarc", text);
    table.add("none", Verified, Pass, text("v=DMARC1; p=none"));
    table.add("quarantine", Verified, Pass, text("v=DMARC1; p=quarantine"));
    table.add("reject", Verified, Pass, text("v=DMARC1; p=reject"));
    table.add("no spaces", Verified, Pass, text("v=DMARC1;p=reject;pct=100"));
    table.add("many spaces", Verified, Pass, text("v = DMARC1 ; p = reject ;"));
    table.add("upper case", Verified, Pass, text("v=DMARC1; p=REJECT"));
    table.add("reports", Verified, Pass, text("v=DMARC1; p=none; rua=mailto:d@reports.test; ruf=mailto:f@reports.test; fo=1; ri=3600"));
    table.add("strict about both", Verified, Pass, text("v=DMARC1; p=reject; adkim=s; aspf=s"));
    table.add("a sample", Verified, Pass, text("v=DMARC1; p=reject; pct=20"));
    table.add("beside other texts", Verified, Pass, |zone| zone.txt("_dmarc", "hello").txt("_dmarc", "v=DMARC1; p=none"));
    table.add("cut at odd places", Verified, Pass, |zone| zone.record("_dmarc", "TXT", r#""v=DMA" "RC1; p=re" "ject""#));
    table.add("an alias", Verified, Pass, |zone| zone.record("_dmarc", "CNAME", "policy.away.test."));
    table.add("a wildcard", Verified, Pass, |zone| zone.txt("*", "v=DMARC1; p=reject"));
    table.add_absences("_dmarc");
    table.add("no DMARC", Mismatch, Absent, text("hello"));
    table.add("no version", Mismatch, Absent, text("p=reject"));
    table.add("a version in lower case", Mismatch, Absent, text("v=dmarc1; p=reject"));
    table.add("a version too late", Mismatch, Absent, text("p=reject; v=DMARC1"));
    table.add("no policy", Mismatch, Pass, text("v=DMARC1; sp=reject"));
    table.because("checkdmarc fills p=none in; without p= and rua= receivers ignore the record (RFC 7489 section 6.6.3)");
    table.add("an unknown policy", Mismatch, PermError, text("v=DMARC1; p=refuse"));
    table.add("two records", Conflict, Absent, |zone| zone.txt("_dmarc", "v=DMARC1; p=none").txt("_dmarc", "v=DMARC1; p=reject"));
    table.add("sub: the parent's", Verified, Pass, text("v=DMARC1; p=reject; sp=quarantine"));
    table.add("sub: the parent's, none for it", Verified, Pass, text("v=DMARC1; p=reject; sp=none"));
    table.add("sub: its own", Verified, Pass, |zone| zone.txt("_dmarc.sub", "v=DMARC1; p=reject"));
    table.add("sub: its own beside the parent's", Verified, Pass, |zone| zone.txt("_dmarc.sub", "v=DMARC1; p=none").txt("_dmarc", "v=DMARC1; p=reject"));
    table.add("sub: nothing anywhere", Missing, Absent, |zone| zone);
    table
}

#[tokio::test]
async fn dmarc_agrees_with_checkdmarc() {
    let mut table = table();
    let key = SigningKey::ed25519().unwrap();
    for row in &mut table.rows {
        let under = if row.name.starts_with("sub") {
            ".sub"
        } else {
            ""
        };
        row.zone = (row.zone.clone())
            .txt(&format!("s1._domainkey{under}"), key.record())
            .txt(&format!("bounce{under}"), "v=spf1 ip4:192.0.2.1 -all");
    }
    let away = Zone::new("away.test").txt("policy", "v=DMARC1; p=reject");
    let world = World::start(63, &table.zones(vec![away, Zone::refused(REFUSED)])).await;
    let rows = &table.rows;
    let domains: Vec<_> = rows.iter().map(domain).collect();
    let paths: Vec<_> = domains
        .iter()
        .map(|domain| domain.child("bounce").unwrap())
        .collect();
    let mails: Vec<_> = domains
        .iter()
        .zip(&paths)
        .map(|(domain, path)| Mail {
            author: domain.as_str(),
            return_path: path.as_str(),
            client: IpAddr::from([192, 0, 2, 1]),
            signatures: vec![key.signature(domain.as_str(), "s1")],
        })
        .collect();
    let verdicts = world.judged(&mails).await;
    let mut seen = Vec::new();
    for ((domain, return_path), verdict) in domains.iter().zip(&paths).zip(verdicts) {
        let expected = Expectation {
            domain,
            return_path,
            minimum: DmarcPolicy::None,
        };
        seen.push((check(&world.resolver, expected).await, verdict.dmarc.result));
    }
    world.stop().await;
    compare(rows, &seen);
}

/// The From domain of the row.
fn domain(row: &Row) -> DomainName {
    let origin = row.zone.origin();
    match row.name.starts_with("sub") {
        true => format!("sub.{origin}").parse().unwrap(),
        false => origin.parse().unwrap(),
    }
}
