//! A relay that starts on a large queue, is killed while it reads it, and starts again, has all of
//! it, and delivers what is due.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use postrider_crds::relay_config::Admission::{Hold, Send};
use postrider_relay::{
    custody::{Custody, Limits, NewMessage, Parts, QueueReport, RecipientResult, Settlement},
    mail::{BodyKind, Envelope, MessageId, Recipient, ReturnPath},
    ports::{Clock as _, SystemClock, SystemDisk, SystemRandom},
    telemetry::Telemetry,
};

use crate::support::{Relay, World, domain, effort, message, within};

/// Messages of which one in [`DUE`] is due, the others held.
fn queue() -> u64 {
    effort(20_000, 200_000)
}

const DUE: u64 = 100;
/// Legs of one domain that are taken at a time.
const TOGETHER: usize = 32;
/// Milliseconds after which the relay is killed while it starts.
const KILLS: [u64; 3] = [1, 60, 250];

fn custody(world: &World) -> Custody {
    Custody::open(Parts {
        disk: Arc::new(SystemDisk::open(&world.spool()).unwrap()),
        clock: Arc::new(SystemClock::start()),
        random: Arc::new(SystemRandom),
        telemetry: Arc::new(Telemetry::new(Box::new(std::io::sink()))),
        limits: Limits::default(),
        admission: Arc::new(|_| Send),
    })
    .unwrap()
}

fn new_message(number: u64) -> NewMessage {
    let domain = match number % DUE {
        0 => "example.com",
        _ => "held.example",
    };
    let sender = format!("ann@{domain}");
    let accepted = SystemClock::start().wall();
    NewMessage {
        id: MessageId::new(accepted, number.into()),
        envelope: Envelope {
            return_path: ReturnPath::Mailbox(sender.parse().unwrap()),
            recipients: vec![Recipient {
                mailbox: format!("good-{number}@receiver.example").parse().unwrap(),
            }],
            body_kind: BodyKind::SevenBit,
            domain: Some(domain.parse().unwrap()),
            tenant: "apps/ann".to_owned(),
            priority: None,
        },
        body: message(&sender, &format!("queued {number}.")).into(),
        accepted,
        suppressed: Vec::new(),
    }
}

async fn fill(world: &World) -> BTreeSet<MessageId> {
    let custody = custody(world);
    let mut held = BTreeSet::new();
    for first in (0..queue()).step_by(1000) {
        let batch = (first..first + 1000).map(new_message);
        let accepts = batch.map(|message| {
            if message.envelope.domain != Some("example.com".parse().unwrap()) {
                held.insert(message.id);
            }
            custody.accept(message)
        });
        for committed in join_all(accepts).await {
            let _ = committed.unwrap();
        }
    }
    custody.close().await;
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn and_kills_while_it_starts() {
    let world = World::new(vec![
        domain("example.com", Send),
        domain("held.example", Hold),
    ])
    .await;
    let held = fill(&world).await;
    for milliseconds in KILLS {
        let relay = Relay::start(&world).await;
        let patience = Duration::from_millis(milliseconds);
        // Ready or not.
        tokio::time::timeout(patience, relay.ready()).await.ok();
        relay.kill().await;
    }
    let relay = world.relay().await;
    let report = world.drained().await;
    assert_eq!(report.queue.held, held.len() as u64);
    let arrived: BTreeSet<String> = world
        .sink
        .received()
        .into_iter()
        .flat_map(|message| message.recipients)
        .collect();
    assert_eq!(arrived.len() as u64, queue() / DUE);
    assert_eq!(relay.terminate().await.0, Some(0));
    let custody = custody(&world);
    let mut left = BTreeSet::new();
    while left.len() < held.len() {
        let together = TOGETHER.min(held.len() - left.len());
        let mut settled = Vec::new();
        for _ in 0..together {
            let claim = within("a claim", custody.next_due()).await.unwrap();
            assert!(left.insert(claim.id), "{} twice", claim.id);
            let delivered = Settlement {
                results: vec![(0, RecipientResult::Delivered)],
                ..Settlement::default()
            };
            settled.push(custody.settle(claim, delivered));
        }
        for result in join_all(settled).await {
            result.unwrap();
        }
    }
    assert!(left == held, "another message than those accepted");
    assert_eq!(custody.report(), QueueReport::default());
    custody.close().await;
}
