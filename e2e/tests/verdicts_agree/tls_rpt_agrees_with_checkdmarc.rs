//! TLSRPT records (RFC 8460), against checkdmarc.

use postrider_crds::{
    DomainName,
    RecordState::{Conflict, Mismatch, Verified},
};
use postrider_e2e::peers::{
    Matter,
    Outcome::{None as Absent, Pass, PermError},
    dns::Zone,
};
use postrider_operator::dns::{Addressee, tls_rpt::check};

use super::support::{REFUSED, Table, World, compare, txt};

const NAME: &str = "_smtp._tls";
const RECORD: &str = "v=TLSRPTv1; rua=mailto:reports@example.test";

#[rustfmt::skip]
fn table() -> Table {
    let mut table = Table::new('r');
    let text = |text| txt(NAME, text);
    table.add("a mailbox", Verified, Pass, text(RECORD));
    table.add("a site", Verified, Pass, text("v=TLSRPTv1; rua=https://reports.example.test/v1/tlsrpt"));
    table.add("a site with a query", Verified, Pass, text("v=TLSRPTv1; rua=https://reports.example.test/?a=b"));
    table.add("both", Verified, Pass, text("v=TLSRPTv1; rua=mailto:r@example.test,https://reports.example.test/"));
    table.add("spaces around the comma", Verified, Pass, text("v=TLSRPTv1; rua=mailto:r@example.test , mailto:s@example.test"));
    table.add("two fields", Verified, Pass, text("v=TLSRPTv1; rua=mailto:r@example.test; rua=mailto:s@example.test"));
    table.add("no spaces, an end", Verified, Pass, text("v=TLSRPTv1;rua=mailto:r@example.test;"));
    table.add("an extension", Verified, Pass, text("v=TLSRPTv1; x.y=1; rua=mailto:r@example.test"));
    table.add("an encoded octet", Verified, Pass, text("v=TLSRPTv1; rua=mailto:r%21@example.test"));
    table.add("beside other texts", Verified, Pass, |zone| zone.txt(NAME, "hello").txt(NAME, RECORD));
    table.add("an alias", Verified, Pass, |zone| zone.record(NAME, "CNAME", "reports.away.test."));
    table.add_absences(NAME);
    table.add("another text", Mismatch, Absent, text("hello"));
    table.add("a version in lower case", Mismatch, Absent, text("v=tlsrptv1; rua=mailto:r@example.test"));
    table.add("a space before the semicolon", Mismatch, Pass, text("v=TLSRPTv1 ; rua=mailto:r@example.test"));
    table.because("the grammar allows it, and senders that go by \"begin with v=TLSRPTv1;\" discard it (RFC 8460 section 3); checkdmarc warns");
    table.add("no rua", Mismatch, PermError, text("v=TLSRPTv1;"));
    table.add("another field instead", Mismatch, PermError, text("v=TLSRPTv1; ruf=mailto:r@example.test"));
    table.add("an empty rua", Mismatch, PermError, text("v=TLSRPTv1; rua="));
    table.add("a bare mailbox", Mismatch, PermError, text("v=TLSRPTv1; rua=r@example.test"));
    table.add("a site without TLS", Mismatch, PermError, text("v=TLSRPTv1; rua=http://reports.example.test/"));
    table.add("a mailbox without a host", Mismatch, PermError, text("v=TLSRPTv1; rua=mailto:r@"));
    table.add("a size", Mismatch, PermError, text("v=TLSRPTv1; rua=mailto:r@example.test!10m"));
    table.add("a bad octet", Mismatch, PermError, text("v=TLSRPTv1; rua=https://reports.example.test/%zz"));
    table.add("one good, one bad", Mismatch, PermError, text("v=TLSRPTv1; rua=mailto:r@example.test,ftp://x.test"));
    table.add("two records", Conflict, PermError, |zone| zone.txt(NAME, RECORD).txt(NAME, "v=TLSRPTv1; rua=mailto:s@example.test"));
    table
}

#[tokio::test]
async fn tls_rpt_agrees_with_checkdmarc() {
    let mut table = table();
    for row in &mut table.rows {
        row.zone = row.zone.clone().mx("@", 10, "mx.away.test");
    }
    let away = Zone::new("away.test").txt("reports", RECORD);
    let world = World::start(67, &table.zones(vec![away, Zone::refused(REFUSED)])).await;
    let origins = table.rows.iter().map(|row| row.zone.origin().to_owned());
    let matters: Vec<Matter> = origins.map(Matter::TlsRpt).collect();
    let rulings = world.ruled(&matters).await;
    let mut seen = Vec::new();
    for (row, ruling) in table.rows.iter().zip(rulings) {
        let domain: DomainName = row.zone.origin().parse().unwrap();
        let addressee = Addressee {
            domain: &domain,
            exchange: None,
        };
        let finding = check(&world.resolver, addressee).await.unwrap();
        seen.push((finding, ruling));
    }
    world.stop().await;
    compare(&table.rows, &seen);
}
