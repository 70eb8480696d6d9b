//! What it costs the queue to give out a leg and take it back, with so many tenants whose mail
//! waits for one site. `cargo bench -p postrider-relay --bench queue`.
//!
//! It runs on one thread, in memory; what is measured is custody without its disk.

#![expect(clippy::unwrap_used, reason = "a benchmark stops by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use postrider_crds::relay_config::Admission;
use postrider_relay::{
    custody::{Custody, Limits, NewMessage, Parts, Trust},
    mail::{BodyKind, Envelope, MessageId, Recipient, ReturnPath, Site},
    ports::{SystemClock, SystemDisk, SystemRandom},
    telemetry::Telemetry,
};
use tokio::runtime::Runtime;

/// Messages that are accepted at a time, to share syncs.
const SESSIONS: usize = 200;

fn tenants_at_one_site(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("queue/give and take back");
    for tenants in [1_u128, 100, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let custody = runtime.block_on(filled(folder.path(), tenants));
        group.bench_function(format!("{tenants} tenants"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let due = custody.next_ready().await.unwrap();
                    let claim = custody.load(due).await.unwrap();
                    custody.put_back(claim).await;
                });
            });
        });
        runtime.block_on(custody.close());
    }
}

/// A queue in which one message of each tenant waits for one site.
async fn filled(spool: &std::path::Path, tenants: u128) -> Custody {
    let custody = Custody::open(Parts {
        disk: Arc::new(SystemDisk::open(spool).unwrap()),
        clock: Arc::new(SystemClock::start()),
        random: Arc::new(SystemRandom),
        telemetry: Arc::new(Telemetry::new(Box::new(std::io::sink()))),
        limits: Limits::default(),
        admission: Arc::new(|_| Admission::Send),
    })
    .unwrap();
    stream::iter(0..tenants)
        .for_each_concurrent(SESSIONS, |number| {
            let custody = custody.clone();
            async move {
                let _ = custody.accept(message(number)).await.unwrap();
            }
        })
        .await;
    let site = "example.org".parse().unwrap();
    let _ = custody.bind(&site, &Site::of_domain(&site), 80, Trust::Proven);
    custody
}

fn message(number: u128) -> NewMessage {
    let accepted = Timestamp::UNIX_EPOCH;
    NewMessage {
        id: MessageId::new(accepted, number),
        envelope: Envelope {
            return_path: ReturnPath::Mailbox("app@example.com".parse().unwrap()),
            recipients: vec![Recipient {
                mailbox: "someone@example.org".parse().unwrap(),
            }],
            body_kind: BodyKind::SevenBit,
            domain: Some("example.com".parse().unwrap()),
            tenant: format!("apps/{number}"),
            priority: None,
        },
        body: Bytes::from_static(b"Subject: a message\r\n\r\n"),
        accepted,
        suppressed: Vec::new(),
    }
}

criterion_group!(benches, tenants_at_one_site);
criterion_main!(benches);
