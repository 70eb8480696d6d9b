//! SPF of the return path (RFC 7208), evaluated for the pool's address, against pyspf.

use std::net::IpAddr;

use postrider_crds::RecordState::{Conflict, Mismatch, Missing, Unknown, Verified};
use postrider_e2e::peers::{
    Outcome::{Fail, Neutral, None as Absent, Pass, PermError, SoftFail, TempError},
    dns::Zone,
};
use postrider_operator::dns::spf::{Expectation, check};

use super::support::{Mail, REFUSED, Row, Table, World, compare};

/// The pool's addresses.
const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

/// The record of the return path, `r` in the row's zone.
fn record(text: &str) -> impl Fn(Zone) -> Zone {
    let text = text.to_owned();
    move |zone| zone.txt("r", &text)
}

/// Terms that ask for `count` names that exist.
fn asking(count: usize) -> String {
    (0..count).map(|n| format!("a:h{n}.chain.test ")).collect()
}

fn long_record() -> String {
    let others: String = (1..30).map(|n| format!("ip4:198.51.100.{n} ")).collect();
    format!("v=spf1 {others}ip4:192.0.2.1 -all")
}

#[rustfmt::skip]
fn own_terms(table: &mut Table) {
    let text = record;
    table.add("the address", Verified, Pass, text("v=spf1 ip4:192.0.2.1 -all"));
    table.add("its network", Verified, Pass, text("v=spf1 ip4:192.0.2.0/24 -all"));
    table.add("all upper case", Verified, Pass, text("V=SPF1 IP4:192.0.2.1 -ALL"));
    table.add("many spaces", Verified, Pass, text("v=spf1  ip4:192.0.2.1   -all "));
    table.add("everybody", Verified, Pass, text("v=spf1 +all"));
    table.add("beside other texts", Verified, Pass, |zone| zone.txt("r", "site=1").txt("r", "v=spf1 ip4:192.0.2.1 -all"));
    table.add("longer than a string", Verified, Pass, text(&long_record()));
    table.add("cut within a term", Verified, Pass, |zone| zone.record("r", "TXT", r#""v=spf1 ip4:192." "0.2.1 -all""#));
    table.add("cut without its space", Missing, Absent, |zone| zone.record("r", "TXT", r#""v=spf1" "ip4:192.0.2.1 -all""#));
    table.add("nothing", Missing, Absent, |zone| zone);
    table.add("no SPF", Missing, Absent, text("hello"));
    table.add("another version", Missing, Absent, text("v=spf10 ip4:192.0.2.1 -all"));
    table.add("two records", Conflict, PermError, |zone| zone.txt("r", "v=spf1 ip4:192.0.2.1 -all").txt("r", "v=spf1 mx -all"));
    table.add("another address", Mismatch, Fail, text("v=spf1 ip4:192.0.2.2 -all"));
    table.add("softly another", Mismatch, SoftFail, text("v=spf1 ip4:192.0.2.2 ~all"));
    table.add("neutrally another", Mismatch, Neutral, text("v=spf1 ip4:192.0.2.2 ?all"));
    table.add("no all", Mismatch, Neutral, text("v=spf1 ip4:192.0.2.2"));
    table.add("nothing but the version", Mismatch, Neutral, text("v=spf1"));
    table.add("all too early", Mismatch, Fail, text("v=spf1 -all ip4:192.0.2.1"));
    table.add("the address, neutrally", Mismatch, Neutral, text("v=spf1 ?ip4:192.0.2.1 -all"));
    table.add("a typing error", Mismatch, PermError, text("v=spf1 ipv4:192.0.2.1 -all"));
    table.add("no address", Mismatch, PermError, text("v=spf1 ip4:192.0.2.300 -all"));
    table.add("no network", Mismatch, PermError, text("v=spf1 ip4:192.0.2.0/33 -all"));
    table.add("an unknown modifier", Verified, Pass, text("v=spf1 note=ours ip4:192.0.2.1 -all"));
    table.add("an explanation", Verified, Pass, text("v=spf1 ip4:192.0.2.1 -all exp=why.chain.test"));
    table.add("two redirects", Mismatch, PermError, text("v=spf1 redirect=good.chain.test redirect=good.chain.test"));
}

#[rustfmt::skip]
fn terms_that_ask(table: &mut Table) {
    let text = record;
    table.add("a host", Verified, Pass, text("v=spf1 a:ours.chain.test -all"));
    table.add("a host's network", Verified, Pass, text("v=spf1 a:h0.chain.test/24 -all"));
    table.add("its own host", Verified, Pass, |zone| zone.txt("r", "v=spf1 a -all").record("r", "A", V4));
    table.add("its exchange", Verified, Pass, |zone| zone.txt("r", "v=spf1 mx -all").mx("r", 10, "ours.chain.test"));
    table.add("a null MX", Mismatch, Fail, |zone| zone.txt("r", "v=spf1 mx -all").mx("r", 0, ""));
    table.add("eleven exchanges", Mismatch, PermError, |zone| (0..11).fold(zone.txt("r", "v=spf1 mx -all"), |zone, n| zone.mx("r", 10, &format!("h{n}.chain.test"))));
    table.add("an include", Verified, Pass, text("v=spf1 include:good.chain.test -all"));
    table.add("an include that fails", Mismatch, Fail, text("v=spf1 include:bad.chain.test -all"));
    table.add("an include of nothing", Mismatch, PermError, text("v=spf1 include:none.chain.test -all"));
    table.add("an include of two", Mismatch, PermError, text("v=spf1 include:two.chain.test -all"));
    table.add("an include of itself", Mismatch, PermError, |zone| { let itself = format!("v=spf1 include:r.{} -all", zone.origin()); zone.txt("r", &itself) });
    table.add("an include behind a match", Verified, Pass, text("v=spf1 ip4:192.0.2.1 include:none.chain.test -all"));
    table.add("an underscored include", Verified, Pass, text("v=spf1 include:_spf.chain.test -all"));
    table.add("a redirect", Verified, Pass, text("v=spf1 redirect=good.chain.test"));
    table.add("a redirect to nothing", Mismatch, PermError, text("v=spf1 redirect=none.chain.test"));
    table.add("a redirect behind all", Mismatch, Fail, text("v=spf1 -all redirect=good.chain.test"));
}

#[rustfmt::skip]
fn limits_and_macros(table: &mut Table) {
    let text = record;
    table.add("ten lookups", Verified, Pass, text(&format!("v=spf1 {}ip4:192.0.2.1 -all", asking(10))));
    table.add("eleven lookups", Mismatch, PermError, text(&format!("v=spf1 {}ip4:192.0.2.1 -all", asking(11))));
    table.add("two void lookups", Verified, Pass, text("v=spf1 a:v0.chain.test a:v1.chain.test ip4:192.0.2.1 -all"));
    table.add("three void lookups", Mismatch, PermError, text("v=spf1 a:v0.chain.test a:v1.chain.test a:v2.chain.test ip4:192.0.2.1 -all"));
    table.add("a name made of the address", Verified, Pass, text("v=spf1 exists:%{ir}.ok.chain.test -all"));
    table.add("a name made of the sender", Verified, Pass, text("v=spf1 exists:%{l}.ok.chain.test -all"));
    table.add("a name made of the domain", Mismatch, Fail, text("v=spf1 exists:%{d2}.ok.chain.test -all"));
    table.add("a bad macro", Mismatch, PermError, text("v=spf1 exists:%{x}.ok.chain.test -all"));
    table.add("its reverse name", Verified, Pass, text("v=spf1 ptr:chain.test -all"));
    table.add("another reverse name", Mismatch, Fail, text("v=spf1 ptr:other.test -all"));
    table.add("an alias", Verified, Pass, |zone| zone.record("r", "CNAME", "good.chain.test."));
    table.add("a wildcard", Verified, Pass, |zone| zone.txt("*", "v=spf1 ip4:192.0.2.1 -all"));
    table.add("an include that is refused", Unknown, TempError, text("v=spf1 include:x.refused.test -all"));
    table.add("a refused host behind a match", Verified, Pass, text("v=spf1 ip4:192.0.2.1 a:x.refused.test -all"));
}

#[rustfmt::skip]
fn six(table: &mut Table) {
    let text = record;
    table.add("six: the address", Verified, Pass, text("v=spf1 ip6:2001:db8::1 -all"));
    table.add("six: its network", Verified, Pass, text("v=spf1 ip6:2001:db8::/32 -all"));
    table.add("six: a host", Verified, Pass, text("v=spf1 a:ours.chain.test -all"));
    table.add("six: a host of the other kind", Mismatch, Fail, text("v=spf1 a:h0.chain.test -all"));
    table.add("six: only the other kind", Mismatch, Fail, text("v=spf1 ip4:192.0.2.1 -all"));
}

/// What the rows refer to.
fn common() -> Vec<Zone> {
    let chain = (0..11).fold(Zone::new("chain.test"), |zone, n| {
        zone.record(&format!("h{n}"), "A", &format!("192.0.2.{}", 100 + n))
    });
    let chain = chain
        .record("ours", "A", V4)
        .record("ours", "AAAA", V6)
        .txt("good", "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all")
        .txt("_spf", "v=spf1 ip4:192.0.2.1 -all")
        .txt("bad", "v=spf1 -all")
        .txt("two", "v=spf1 +all")
        .txt("two", "v=spf1 mx +all")
        .txt("why", "because")
        .record("1.2.0.192.ok", "A", "127.0.0.2")
        .record("postmaster.ok", "A", "127.0.0.2");
    let reverse = Zone::new("2.0.192.in-addr.arpa").record("1", "PTR", "ours.chain.test.");
    vec![chain, reverse, Zone::refused(REFUSED)]
}

#[tokio::test]
async fn spf_agrees_with_pyspf() {
    let mut table = Table::new('s');
    for part in [own_terms, terms_that_ask, limits_and_macros, six] {
        part(&mut table);
    }
    let rows = &table.rows;
    let world = World::start(61, &table.zones(common())).await;
    let client = |row: &Row| if row.name.starts_with("six") { V6 } else { V4 };
    let names: Vec<_> = rows
        .iter()
        .map(|row| format!("r.{}", row.zone.origin()))
        .collect();
    let mails: Vec<_> = rows
        .iter()
        .zip(&names)
        .map(|(row, name)| Mail {
            author: row.zone.origin(),
            return_path: name,
            client: client(row).parse::<IpAddr>().unwrap(),
            signatures: Vec::new(),
        })
        .collect();
    let verdicts = world.judged(&mails).await;
    let mut seen = Vec::new();
    for ((row, name), verdict) in rows.iter().zip(&names).zip(verdicts) {
        let expected = Expectation {
            return_path: &name.parse().unwrap(),
            egress: &[client(row).parse().unwrap()],
            helo: "mail.elsewhere.test",
        };
        let finding = check(&world.resolver, expected).await;
        seen.push((finding, verdict.spf.result));
    }
    world.stop().await;
    compare(rows, &seen);
}
