//! Names of addresses (RFC 1912 section 2.1), against checkdmarc. Row `n` is about 192.0.2.`n+1`, or
//! about 2001:db8::`n+1` where its name says so.

use std::net::{IpAddr, Ipv6Addr};

use postrider_crds::{
    DomainName, EgressRange,
    RecordState::{self, Mismatch, Missing, Unknown, Verified},
};
use postrider_e2e::peers::{
    Matter,
    Outcome::{self, Fail, None as Absent, Pass, TempError},
    dns::Zone,
};
use postrider_operator::dns::reverse::{Expectation, check, record_name};

use super::support::{REFUSED, Row, Table, World, compare};

const REVERSE: &str = "2.0.192.in-addr.arpa";
const REVERSE_SIX: &str = "0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";

/// The address of a row.
fn address(index: usize, row: &Row) -> IpAddr {
    let number = u8::try_from(index + 1).unwrap();
    match row.name.starts_with("six") {
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
        false => IpAddr::from([192, 0, 2, number]),
    }
}

/// The rows, and what stands at the reverse name of each: type and data, `{o}` for the row's zone.
#[rustfmt::skip]
fn table() -> (Table, Vec<&'static [(&'static str, &'static str)]>) {
    let (mut table, mut reverse) = (Table::new('n'), Vec::new());
    let mut add = |name, ours: RecordState, theirs: Outcome, names, forward: &[(&str, &str)]| {
        table.add(name, ours, theirs, |zone| forward.iter().fold(zone, |zone, (name, kind)| zone.record(name, kind, "{a}")));
        reverse.push(names);
    };
    let host: &[_] = &[("host", "A")];
    add("a name that leads back", Verified, Pass, &[("PTR", "host.{o}.")][..], host);
    add("six: a name that leads back", Verified, Pass, &[("PTR", "host.{o}.")][..], &[("host", "AAAA")]);
    add("two names that lead back", Verified, Pass, &[("PTR", "host.{o}."), ("PTR", "other.{o}.")][..], &[("host", "A"), ("other", "A")]);
    add("an odd name that leads back", Verified, Pass, &[("PTR", "my_host.{o}.")][..], &[("my_host", "A")]);
    add("an alias on the way there", Verified, Pass, &[("CNAME", "to.{o}.")][..], &[("host", "A"), ("to", "PTR")]);
    add("an alias on the way back", Verified, Pass, &[("PTR", "alias.{o}.")][..], &[("host", "A"), ("alias", "CNAME")]);
    add("no name", Missing, Absent, &[][..], host);
    add("a text instead", Missing, TempError, &[("TXT", "\"host\"")][..], host);
    add("six: no name", Missing, Absent, &[][..], &[("host", "AAAA")]);
    add("a name of nothing", Mismatch, Fail, &[("PTR", "none.{o}.")][..], host);
    add("a name of another address", Mismatch, Fail, &[("PTR", "away.{o}.")][..], &[("host", "A"), ("away", "away")]);
    add("six: a name of the other kind", Mismatch, Fail, &[("PTR", "away.{o}.")][..], &[("away", "away")]);
    add("one name of two", Verified, Fail, &[("PTR", "host.{o}."), ("PTR", "none.{o}.")][..], host);
    add("a name that is refused", Unknown, TempError, &[("PTR", "x.refused.test.")][..], host);
    add("names that are refused", Unknown, TempError, &[("CNAME", "x.refused.test.")][..], host);
    let because = [
        ("a text instead", "checkdmarc takes a name with other records for trouble"),
        ("one name of two", "one name that leads back is enough for a receiver (RFC 8601 section 2.7.3); checkdmarc wants every name to"),
    ];
    for row in &mut table.rows {
        row.differs = because.iter().find(|(name, _)| *name == row.name).map(|(_, why)| *why);
    }
    (table, reverse)
}

/// The zones of the rows, with addresses and names put in, and the reverse zones.
fn zones(table: &mut Table, names: &[&[(&str, &str)]]) -> Vec<Zone> {
    let (mut four, mut six) = (Zone::new(REVERSE), Zone::new(REVERSE_SIX));
    for (index, (row, names)) in table.rows.iter_mut().zip(names).enumerate() {
        let (address, origin) = (address(index, row), row.zone.origin().to_owned());
        let mut zone = Zone::new(&origin);
        for line in row.zone.records().lines() {
            let name = line.split(' ').next().unwrap();
            let kind = line.split(' ').nth(2).unwrap();
            zone = match kind {
                "away" => zone.record(name, "A", "198.51.100.1"),
                "PTR" | "CNAME" => zone.record(name, kind, &format!("host.{origin}.")),
                _ => zone.address(name, address),
            };
        }
        row.zone = zone;
        let owner = format!("{}.", record_name(address));
        for (kind, data) in *names {
            let data = data.replace("{o}", &origin);
            match address {
                IpAddr::V4(_) => four = four.record(&owner, kind, &data),
                IpAddr::V6(_) => six = six.record(&owner, kind, &data),
            }
        }
    }
    table.zones(vec![four, six, Zone::refused(REFUSED)])
}

#[tokio::test]
async fn names_agree_with_checkdmarc() {
    let (mut table, names) = table();
    let zones = zones(&mut table, &names);
    let world = World::start(69, &zones).await;
    let rows = table.rows.iter().enumerate();
    let addresses: Vec<IpAddr> = rows.map(|(index, row)| address(index, row)).collect();
    let matters: Vec<Matter> = addresses.iter().copied().map(Matter::Reverse).collect();
    let rulings = world.ruled(&matters).await;
    let ehlo: [DomainName; 1] = ["mail.elsewhere.test".parse().unwrap()];
    let mut seen = Vec::new();
    for (address, ruling) in addresses.iter().zip(rulings) {
        let egress: [EgressRange; 1] = [address.to_string().parse().unwrap()];
        let expected = Expectation {
            egress: &egress,
            names: &ehlo,
        };
        let mut found = check(&world.resolver, expected).await;
        seen.push((found.addresses.remove(0).1, ruling));
    }
    world.stop().await;
    compare(&table.rows, &seen);
}
