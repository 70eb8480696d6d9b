//! MTA-STS records and policies (RFC 8461), against checkdmarc. Policies are handed to both sides: how
//! one is fetched is no matter here.

use std::net::IpAddr;

use futures::{FutureExt as _, future, future::BoxFuture};
use postrider_crds::{
    DomainName,
    RecordState::{self, Conflict, Mismatch, Verified},
};
use postrider_e2e::peers::{
    Matter,
    Outcome::{None as Absent, Pass, PermError},
    dns::Zone,
};
use postrider_operator::dns::{
    Addressee, Finding, PolicyHosts,
    mta_sts::{Trouble, check},
};

use super::support::{REFUSED, Table, World, compare, txt};

const RECORD: &str = "v=STSv1; id=20260101";
const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.away.test\nmax_age: 604800\n";

/// Serves one policy, whoever is asked.
struct Serves<'a>(&'a str);

impl PolicyHosts for Serves<'_> {
    fn policy<'a>(&'a self, _: &'a str, _: &'a [IpAddr]) -> BoxFuture<'a, Result<String, Trouble>> {
        future::ready(Ok(self.0.to_owned())).boxed()
    }
}

#[rustfmt::skip]
fn records() -> Table {
    let mut table = Table::new('m');
    let text = |text| txt("_mta-sts", text);
    table.add("as in the standard", Verified, Pass, text("v=STSv1; id=20160831085700Z;"));
    table.add("no spaces", Verified, Pass, text("v=STSv1;id=1"));
    table.add("spaces and tabs", Verified, Pass, text("v=STSv1; \t id=1 \t;"));
    table.add("the longest id", Verified, Pass, text("v=STSv1; id=12345678901234567890123456789012"));
    table.add("an extension", Verified, Pass, text("v=STSv1; id=1; x.y-z_1=a,b"));
    table.add("an extension first", Verified, Pass, text("v=STSv1; note=ours; id=1"));
    table.add("two ids", Verified, Pass, text("v=STSv1; id=1; id=2"));
    table.add("beside other texts", Verified, Pass, |zone| zone.txt("_mta-sts", "hello").txt("_mta-sts", RECORD));
    table.add("cut at odd places", Verified, Pass, |zone| zone.record("_mta-sts", "TXT", r#""v=ST" "Sv1; id=2" "0""#));
    table.add("an alias", Verified, Pass, |zone| zone.record("_mta-sts", "CNAME", "policy.away.test."));
    table.add_absences("_mta-sts");
    table.add("another text", Mismatch, Absent, text("hello"));
    table.add("no semicolon", Mismatch, Absent, text("v=STSv1"));
    table.add("a version in lower case", Mismatch, Absent, text("v=stsv1; id=1"));
    table.add("a version too late", Mismatch, Absent, text("id=1; v=STSv1;"));
    table.add("spaces around the equals sign", Mismatch, Absent, text("v = STSv1; id=1"));
    table.add("a space before the semicolon", Mismatch, Pass, text("v=STSv1 ; id=1"));
    table.because("the grammar allows it, and senders that go by \"begin with v=STSv1;\" discard it (RFC 8461 section 3.1); checkdmarc warns");
    table.add("no id", Mismatch, PermError, text("v=STSv1;"));
    table.add("an empty id", Mismatch, PermError, text("v=STSv1; id="));
    table.add("an id that is too long", Mismatch, PermError, text("v=STSv1; id=123456789012345678901234567890123"));
    table.add("an id of other characters", Mismatch, PermError, text("v=STSv1; id=2026-01-01"));
    table.add("an id in upper case", Mismatch, PermError, text("v=STSv1; ID=1"));
    table.add("an empty field", Mismatch, PermError, text("v=STSv1;; id=1"));
    table.add("two records", Conflict, PermError, |zone| zone.txt("_mta-sts", RECORD).txt("_mta-sts", "v=STSv1; id=2"));
    table
}

/// The texts, each with what is said of it.
#[rustfmt::skip]
fn policies() -> (Table, Vec<String>) {
    let (mut table, mut texts) = (Table::new('p'), Vec::new());
    let mut add = |name, ours: RecordState, theirs, text: String| {
        table.add(name, ours, theirs, |zone| zone.txt("_mta-sts", RECORD));
        texts.push(text);
    };
    let with = |from, to| POLICY.replace(from, to);
    add("policy: as in the standard", Verified, Pass, POLICY.into());
    add("policy: lines end as in mail", Verified, Pass, with("\n", "\r\n"));
    add("policy: no end of the last line", Verified, Pass, POLICY.trim_end().into());
    add("policy: testing", Verified, Pass, with("enforce", "testing"));
    add("policy: no spaces", Verified, Pass, with(": ", ":"));
    add("policy: spaces at ends", Verified, Pass, with("\n", " \t\n"));
    add("policy: a wildcard", Verified, Pass, with("mx.away", "*.away"));
    add("policy: more hosts", Verified, Pass, with("max_age", "mx: other.test\nmax_age"));
    add("policy: another order", Verified, Pass, "mx: mx.away.test\nmax_age: 604800\nmode: enforce\nversion: STSv1\n".into());
    add("policy: an extension", Verified, Pass, with("mode", "note: a b: c\nmode"));
    add("policy: two modes", Verified, Pass, with("mx:", "mode: none\nmx:"));
    add("policy: the longest age", Verified, Pass, with("604800", "31557600"));
    add("policy: nothing", Mismatch, PermError, String::new());
    add("policy: a page", Mismatch, PermError, "<html>hello</html>\n".into());
    add("policy: no version", Mismatch, PermError, with("version: STSv1\n", ""));
    add("policy: another version", Mismatch, PermError, with("STSv1", "STSv2"));
    add("policy: no mode", Mismatch, PermError, with("mode: enforce\n", ""));
    add("policy: another mode", Mismatch, PermError, with("enforce", "strict"));
    add("policy: no age", Mismatch, PermError, with("max_age: 604800\n", ""));
    add("policy: too long an age", Mismatch, PermError, with("604800", "31557601"));
    add("policy: an age in words", Mismatch, PermError, with("604800", "1 week"));
    add("policy: no host", Mismatch, PermError, with("mx: mx.away.test\n", ""));
    add("policy: a wildcard within", Mismatch, PermError, with("mx.away", "mx.*.away"));
    add("policy: a host that is none", Mismatch, PermError, with("mx.away.test", "not a host!"));
    add("policy: a space before the colon", Mismatch, PermError, with("mode:", "mode :"));
    add("policy: a stray carriage return", Mismatch, PermError, with("enforce", "enforce\r\r"));
    (table, texts)
}

async fn look(world: &World, domain: &str, policy: &str) -> Finding {
    let domain: DomainName = domain.parse().unwrap();
    let addressee = Addressee {
        domain: &domain,
        exchange: None,
    };
    let found = check(&world.resolver, &Serves(policy), addressee).await;
    found.unwrap()
}

#[tokio::test]
async fn mta_sts_agrees_with_checkdmarc() {
    let (mut records, (mut policies, texts)) = (records(), policies());
    for row in records.rows.iter_mut().chain(&mut policies.rows) {
        let zone = row.zone.clone().mx("@", 10, "mx.away.test");
        row.zone = zone.address("mta-sts", IpAddr::from([192, 0, 2, 80]));
    }
    let away = Zone::new("away.test").txt("policy", RECORD);
    let common = vec![away, Zone::refused(REFUSED)];
    let zones = [records.zones(common), policies.zones(Vec::new())].concat();
    let world = World::start(65, &zones).await;
    let origins = records.rows.iter().map(|row| row.zone.origin().to_owned());
    let of_records = origins.map(Matter::MtaSts);
    let of_policies = texts.iter().cloned().map(Matter::Policy);
    let matters: Vec<Matter> = of_records.chain(of_policies).collect();
    let mut rulings = world.ruled(&matters).await.into_iter();
    for (table, texts) in [(&records, Vec::new()), (&policies, texts)] {
        let mut seen = Vec::new();
        for (index, row) in table.rows.iter().enumerate() {
            let policy = texts.get(index).map_or(POLICY, String::as_str);
            let finding = look(&world, row.zone.origin(), policy).await;
            seen.push((finding, rulings.next().unwrap()));
        }
        compare(&table.rows, &seen);
    }
    world.stop().await;
}
