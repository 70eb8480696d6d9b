//! A SendingDomain that names another pool is sent by that pool from then on, and the pool it has left
//! signs and sends what it has to the last message before it forgets the domain. It may come back, and
//! neither a relay that is silent nor a pool that is gone keeps it for ever.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::api::{DeleteParams, ListParams};
use postrider_crds::{
    MailPool, SendingDomainStatus,
    relay_config::{Document as _, DomainEntry, Intake, Keyring},
};
use postrider_e2e::{
    cluster::wait_for,
    peers::{Reply, loopback, sink::Sink},
};
use serde_json::json;

use crate::{
    mail_world::{BOUND, POOL, World},
    pod::objects,
};

/// The operator's, the first relay's and the receiver's.
const HOSTS: [u8; 3] = [96, 97, 98];
/// The second relay's.
const NEXT_HOST: u8 = 99;
const NEXT: &str = "next";

/// Waits until the status of the domain is as `wanted` says, and gives it.
async fn status(
    world: &World,
    what: &str,
    wanted: impl Fn(&SendingDomainStatus) -> bool,
) -> SendingDomainStatus {
    let mut last = String::new();
    let found = wait_for(what, BOUND, "-", async || {
        let status = world.domains().get("shop").await.expect("shop").status;
        let status = status.expect("a status");
        last = format!("{status:#?}");
        Ok(wanted(&status).then_some(status))
    })
    .await;
    found.unwrap_or_else(|error| panic!("{error}; last seen: {last}; {}", world.log()))
}

/// The message of the condition `Moving` with this reason.
fn moving<'a>(status: &'a SendingDomainStatus, reason: &str) -> Option<&'a str> {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|c| c.type_ == "Moving" && c.reason == reason);
    found.map(|condition| condition.message.as_str())
}

fn is_ready(status: &SendingDomainStatus) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The pools that are noted, and whether the domain has left each.
fn pools(status: &SendingDomainStatus) -> Vec<(&str, bool)> {
    let left = |pool: &MailPool| pool.left_at.is_some();
    let pools = status.pools.iter();
    pools.map(|pool| (pool.name.as_str(), left(pool))).collect()
}

/// The text of SPF that has been published.
fn spf(status: &SendingDomainStatus) -> Option<&str> {
    let published = status.published.iter();
    let mut texts = published.flat_map(|p| p.records.iter().map(|record| record.value.as_str()));
    texts.find(|text| text.starts_with("v=spf1 "))
}

/// What the keyring of `pool` has of the domain.
async fn entry(world: &World, pool: &str) -> Option<DomainEntry> {
    let secrets = objects(&world.client, "", "Secret");
    let labelled = ListParams::default().labels(&format!("postrider.dev/pool={pool}"));
    let all = secrets.list(&labelled).await.expect("Secrets");
    let documents = all.into_iter().flat_map(|secret| {
        let data = secret.data["data"].as_object().cloned();
        data.unwrap_or_default().into_iter().map(|(_, text)| text)
    });
    let entries = documents.flat_map(|text| {
        let octets = STANDARD.decode(text.as_str().expect("text"));
        let text = String::from_utf8(octets.expect("base64")).unwrap_or_default();
        Keyring::from_yaml(&text).map_or_else(|_| Vec::new(), |keyring| keyring.domains)
    });
    let mut entries = entries.filter(|entry| entry.domain.as_str() == "shop.test");
    entries.next()
}

/// Makes the domain name `pool`.
async fn move_to(world: &World, pool: &str) {
    let patch = json!({"spec": {"poolRef": {"name": pool}}});
    world.patch("shop", patch).await;
}

async fn submit_to_next(world: &World, subject: &str) -> Reply {
    let address = loopback(NEXT_HOST);
    world.submit_to((NEXT, address), "shop", subject).await
}

/// Waits until the receiver has `count` messages; each has to have both signatures.
async fn received(sink: &Sink, count: usize) {
    let taken = sink.wait_for(BOUND, |all| {
        let messages = all.iter().filter(|t| t.message.is_some());
        messages.count() >= count
    });
    let taken = taken.await.expect("they arrive");
    let messages: Vec<_> = taken.into_iter().filter_map(|t| t.message).collect();
    assert_eq!(messages.len(), count);
    for path in messages {
        let text = std::fs::read_to_string(path).expect("text");
        assert_eq!(text.matches("DKIM-Signature:").count(), 2, "{text}");
    }
}

#[tokio::test]
async fn and_may_come_back() {
    let world = World::start(&["shop"], HOSTS).await;
    let address = loopback(NEXT_HOST);
    let mut next = world.add_pool(NEXT, "192.0.2.11", address).await;
    world.create_domain("shop", json!({})).await;
    world.ready("shop", "True", "Ready").await;
    // Nobody takes it yet.
    let reply = world.submit("shop", "queued").await;
    assert!(reply.accepted, "{reply:?}");
    let first = status(&world, "the pool it names", |_| true).await;
    assert_eq!(pools(&first), [(POOL, false)]);

    what_is_queued_stays_with_the_pool_that_was_left(&world).await;
    let sink = world.receive().await;
    that_forgets_the_domain_once_it_has_sent_all(&world, &sink).await;

    next.kill();
    a_silent_relay_is_waited_for_and_the_domain_is_sent_where_it_came_from(&world, &sink).await;
    its_deletion_waits_for_the_pool_that_was_left_while_there_is_one(&world).await;
}

async fn what_is_queued_stays_with_the_pool_that_was_left(world: &World) {
    move_to(world, NEXT).await;
    let moved = status(world, "Moving", |status| {
        is_ready(status) && moving(status, "QueueNotEmpty").is_some()
    });
    let moved = moved.await;
    let told = moving(&moved, "QueueNotEmpty").expect("told");
    assert_eq!(
        told,
        "in RelayPool default, which the domain has left: 1 message of shop.test queued, which go on being signed and sent"
    );
    assert_eq!(pools(&moved), [(POOL, true), (NEXT, false)]);
    // Both send: the record has to cover both.
    let both = "v=spf1 ip4:192.0.2.11 ip4:192.0.2.10 -all";
    assert_eq!(spf(&moved), Some(both));
    let (left, named) = (entry(world, POOL).await, entry(world, NEXT).await);
    let (left, named) = (left.expect("an entry"), named.expect("an entry"));
    assert_eq!((left.intake, named.intake), (Intake::Closed, Intake::Open));
    assert_eq!(left.keys, named.keys);

    let refused = world.submit("shop", "late").await;
    assert_eq!((refused.accepted, refused.code), (false, 550));
    let words = "shop.test takes no more mail here";
    assert!(refused.reply.contains(words), "{refused:?}");
    let reply = submit_to_next(world, "by the next").await;
    assert!(reply.accepted, "{reply:?}");
}

async fn that_forgets_the_domain_once_it_has_sent_all(world: &World, sink: &Sink) {
    received(sink, 2).await;
    let done = status(world, "the end of the move", |status| {
        pools(status) == [(NEXT, false)] && is_ready(status)
    });
    let done = done.await;
    assert_eq!(moving(&done, "QueueNotEmpty"), None);
    let note = world.event("shop", "QueueEmpty").await;
    let words = "nothing of shop.test is queued in RelayPool default any more";
    assert!(note.contains(words), "{note}");
    let forgotten = wait_for("the pool that was left to forget", BOUND, "-", async || {
        Ok(entry(world, POOL).await.is_none().then_some(()))
    });
    forgotten.await.expect("forgotten");
    assert!(entry(world, NEXT).await.is_some());
    let alone = "v=spf1 ip4:192.0.2.11 -all";
    let is_alone = |status: &SendingDomainStatus| spf(status) == Some(alone);
    status(world, "SPF of the next alone", is_alone).await;
}

async fn a_silent_relay_is_waited_for_and_the_domain_is_sent_where_it_came_from(
    world: &World,
    sink: &Sink,
) {
    move_to(world, POOL).await;
    let unknown =
        "in RelayPool next, which the domain has left: waiting for next-0 to report what is queued";
    let back = status(world, "a silent relay", |status| {
        is_ready(status) && moving(status, "QueueUnknown") == Some(unknown)
    });
    assert_eq!(pools(&back.await), [(NEXT, true), (POOL, false)]);
    let reply = world.submit("shop", "back again").await;
    assert!(reply.accepted, "{reply:?}");
    received(sink, 3).await;
}

async fn its_deletion_waits_for_the_pool_that_was_left_while_there_is_one(world: &World) {
    let none = DeleteParams::default();
    world.domains().delete("shop", &none).await.expect("shop");
    let waits = "being deleted: in RelayPool next, which the domain has left: waiting for next-0";
    let ready = |status: &SendingDomainStatus| {
        let mut conditions = status.conditions.iter();
        conditions.any(|c| c.type_ == "Ready" && c.message.starts_with(waits))
    };
    status(world, "a deletion that waits", ready).await;
    let pools: kube::Api<postrider_crds::RelayPool> =
        kube::Api::default_namespaced(world.client.clone());
    pools.delete(NEXT, &none).await.expect("deleted");
    world.gone("shop").await;
}
