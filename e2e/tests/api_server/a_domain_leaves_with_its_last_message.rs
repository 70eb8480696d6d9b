//! A SendingDomain that is deleted signs and sends what is queued to the last message, takes no more,
//! and withdraws its records only then; and nothing it might wait for keeps it for ever.

use kube::api::DeleteParams;
use postrider_crds::RecordType;
use postrider_e2e::cluster::wait_for;
use postrider_operator::{
    dns::{Answer, HickoryResolver, Resolver as _},
    metrics::Metrics,
};
use serde_json::json;

use crate::{
    mail_world::{BOUND, World},
    pod::objects,
};

const QUEUE: &str = "postrider.dev/deliver-queued";

async fn delete(world: &World, name: &str) {
    let deleted = world.domains().delete(name, &DeleteParams::default()).await;
    deleted.expect(name);
}

/// How many of the records that `name` has published are in DNS.
async fn published(world: &World, records: &[(RecordType, String)]) -> usize {
    let metrics = Metrics::new().expect("metrics");
    let resolver = HickoryResolver::new(&[world.bind.address()], metrics.into()).expect("DNS");
    let mut count = 0;
    for (kind, name) in records {
        count += usize::from(match kind {
            RecordType::MX => matches!(resolver.mx(name).await, Answer::Found { .. }),
            _ => matches!(resolver.txt(name).await, Answer::Found { .. }),
        });
    }
    count
}

#[tokio::test]
async fn whatever_is_queued_and_whoever_is_gone() {
    let mut world = World::start(&["shop", "far", "late"], [61, 62, 63]).await;
    a_domain_of_no_pool_goes_at_once(&world).await;
    for name in ["shop", "far", "late"] {
        world.create_domain(name, json!({})).await;
    }
    for name in ["shop", "far", "late"] {
        world.ready(name, "True", "Ready").await;
        let finalizers = world.domains().get(name).await.expect(name).metadata;
        let finalizers = finalizers.finalizers.unwrap_or_default();
        assert!(finalizers.contains(&QUEUE.to_owned()), "{finalizers:?}");
        // Nobody takes it yet.
        let reply = world.submit(name, &format!("queued of {name}")).await;
        assert!(reply.accepted, "{reply:?}");
    }
    queued_mail_is_signed_and_sent_then_records_go(&world).await;
    a_relay_out_of_reach_is_waited_for_until_somebody_does_not_want_to(&mut world).await;
    the_end_of_the_pool_ends_the_wait(&world).await;
}

async fn a_domain_of_no_pool_goes_at_once(world: &World) {
    let nowhere = json!({"poolRef": {"name": "nowhere"}});
    world.create_domain("lost", nowhere).await;
    world.ready("lost", "False", "PoolNotFound").await;
    let lost = world.domains().get("lost").await.expect("lost");
    assert_eq!(lost.metadata.finalizers, None);
    delete(world, "lost").await;
    world.gone("lost").await;
}

async fn queued_mail_is_signed_and_sent_then_records_go(world: &World) {
    let status = world.domains().get("shop").await.expect("shop").status;
    let records = status
        .expect("a status")
        .published
        .expect("published")
        .records;
    let records: Vec<_> = records.into_iter().map(|r| (r.r#type, r.name)).collect();
    assert_eq!(published(world, &records).await, 4, "{records:?}");
    delete(world, "shop").await;
    let message = world.ready("shop", "False", "QueueNotEmpty").await;
    assert!(
        message.contains("1 message of shop.test queued"),
        "{message}"
    );
    assert!(
        message.contains("postrider.dev/abandon-queue=true"),
        "{message}"
    );
    let refused = world.submit("shop", "late").await;
    assert_eq!(
        (refused.accepted, refused.code),
        (false, 550),
        "{refused:?}"
    );
    assert!(
        refused.reply.contains("shop.test takes no more mail"),
        "{refused:?}"
    );

    // What a deletion in the foreground does first: the keys' Secrets go.
    let secrets = objects(&world.client, "", "Secret");
    let keys = kube::api::ListParams::default().labels("postrider.dev/sending-domain=shop");
    let deleted = secrets
        .delete_collection(&DeleteParams::default(), &keys)
        .await;
    deleted.expect("deleted");
    assert_eq!(published(world, &records).await, 4, "mail is on its way");

    let sink = world.receive().await;
    let taken = sink.wait_for(BOUND, |all| {
        let senders = all.iter().filter(|t| t.message.is_some());
        senders.count() >= 3
    });
    let taken = taken.await.expect("all three arrive");
    for transaction in taken {
        let path = transaction.message.expect("a message");
        let text = std::fs::read_to_string(path).expect("text");
        assert_eq!(text.matches("DKIM-Signature:").count(), 2, "{text}");
    }
    world.gone("shop").await;
    assert_eq!(published(world, &records).await, 0);
    let note = world.event("shop", "QueueEmpty").await;
    assert!(note.contains("nothing of shop.test is queued"), "{note}");
    let again = world.submit("shop", "later").await;
    assert_eq!(again.code, 550, "{again:?}");
}

async fn a_relay_out_of_reach_is_waited_for_until_somebody_does_not_want_to(world: &mut World) {
    world.pod.kill();
    delete(world, "far").await;
    let message = world.ready("far", "False", "QueueUnknown").await;
    let waits = format!("waiting for {} to report", world.pod.name());
    wait_for("the pod's name", BOUND, "-", async || {
        let message = world.ready("far", "False", "QueueUnknown").await;
        Ok(message.contains(&waits).then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {message}"));
    let annotation = json!({"metadata": {"annotations": {"postrider.dev/abandon-queue": "true"}}});
    world.patch("far", annotation).await;
    world.gone("far").await;
    let note = world.event("far", "QueueLeft").await;
    assert!(note.contains(world.pod.name()), "{note}");
}

async fn the_end_of_the_pool_ends_the_wait(world: &World) {
    delete(world, "late").await;
    world.ready("late", "False", "QueueUnknown").await;
    // As when a namespace is deleted: all goes, in no order, and nothing can be withdrawn.
    let secrets = objects(&world.client, "", "Secret");
    let none = DeleteParams::default();
    secrets.delete("dns", &none).await.expect("deleted");
    let pools: kube::Api<postrider_crds::RelayPool> =
        kube::Api::default_namespaced(world.client.clone());
    pools.delete("default", &none).await.expect("deleted");
    world.gone("late").await;
    world.event("late", "RecordsLeft").await;
}
