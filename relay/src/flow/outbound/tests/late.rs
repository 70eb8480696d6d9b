//! Mail that is kept back: its sender is told once that it is late, and then that it is given up.

use postrider_crds::{queue::Verb, relay_config::Admission};

use super::{
    super::late::SWEEP,
    orders::order,
    sink::{Script, Sink},
    world::{MESSAGE, Setup, World, Zone},
};
use crate::{custody::Custody, mail::ReturnPath};

/// A receiver of `example.org` and one of `example.com`, where the sender is.
async fn receivers() -> (Sink, Sink, Setup) {
    let (sink, port) = Sink::listen("127.0.0.2", 0, Script::default()).await;
    let (home, _) = Sink::listen("127.0.0.3", port, Script::default()).await;
    let zone = Zone::default()
        .serve("example.org", &["127.0.0.2"])
        .serve("example.com", &["127.0.0.3"]);
    (sink, home, Setup::new(zone, port))
}

/// Lets so much time pass, and then what waits long is looked for.
async fn advance(world: &World, span: &str) {
    world.advance(span);
    tokio::time::pause();
    tokio::time::advance(SWEEP).await;
    tokio::time::resume();
}

/// Two messages that admission has held for five hours, one of them from nobody.
async fn held_for_long(setup: Setup) -> World {
    let mut world = World::start(Setup {
        admission: Admission::Hold,
        ..setup
    });
    world
        .accept_from(ReturnPath::Null, &["you@example.org"], MESSAGE)
        .await;
    world.accept(&["you@example.org"]).await;
    world.event("held").await;
    world.event("held").await;
    advance(&world, "5h").await;
    world
}

/// Whether there is mail whose sender is to be told.
fn is_any_late(custody: &Custody) -> bool {
    let now = jiff::Timestamp::MAX;
    custody.next_late(now, &mut 0).is_some()
}

#[tokio::test]
async fn the_sender_of_held_mail_is_told_once_that_it_is_late() {
    let (sink, home, setup) = receivers().await;
    let port = setup.port;
    let mut world = held_for_long(setup).await;
    let notified = world.event("notified").await;
    assert_eq!(notified["kind"], "delayed");
    assert_eq!(notified["sender"], "app@example.com");
    world.event("delivered").await;
    let told = home.received().remove(0).data;
    for part in [
        "Action: delayed",
        "Status: 4.7.0",
        "example.com may not send: its DKIM record is missing",
        "Will-Retry-Until: Tue, 6 Jan 2026 00:00:00 +0000",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    for part in ["DKIM-Signature", "Last-Attempt-Date"] {
        assert!(!told.contains(part), "{part} in {told}");
    }
    assert_eq!(world.custody.report().held, 2);
    world.reload(&Setup::new(Zone::default(), port));
    for _ in 0..2 {
        let delivered = world.event("delivered").await;
        assert_eq!(delivered["attempt"], 1);
    }
    assert_eq!((sink.received().len(), home.received().len()), (2, 1));
    world.stop().await;
}

#[tokio::test]
async fn who_was_told_or_cannot_be_is_not_looked_for_again() {
    let (_sink, _home, setup) = receivers().await;
    let mut world = held_for_long(setup).await;
    world.event("notified").await;
    world.event("delivered").await;
    let custody = world.stop().await;
    assert_eq!(custody.report().held, 2);
    assert!(!is_any_late(&custody));
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_else_from_being_given_up() {
    let (_sink, _home, setup) = receivers().await;
    let mut world = World::start(Setup {
        admission: Admission::Hold,
        // A message each.
        segment_bytes: 256,
        ..setup
    });
    for recipient in ["first@example.org", "second@example.org"] {
        world.accept(&[recipient]).await;
        world.event("held").await;
    }
    std::fs::remove_file(world.spool.path().join("0000000000000001.seg")).unwrap();
    // Else the search for what is late may have it at the time.
    advance(&world, "5h").await;
    world.event("notified").await;
    advance(&world, "6d").await;
    let expired = world.event("expired").await;
    assert_eq!(expired["recipient"], "second@example.org");
    // It stays, for the day it can be read.
    assert_eq!(world.custody.report().held, 1);
    world.stop().await;
}

#[tokio::test]
async fn so_is_the_sender_of_what_an_order_keeps_back() {
    for verb in [Verb::Hold, Verb::Suspend] {
        let (sink, home, setup) = receivers().await;
        let mut world = World::start(setup);
        order(&world, verb, "example.org").await;
        world.accept(&["you@example.org"]).await;
        advance(&world, "5h").await;
        assert_eq!(world.event("notified").await["kind"], "delayed");
        world.event("delivered").await;
        let told = home.received().remove(0).data;
        assert!(told.contains("Status: 4.3.2"), "{told}");
        assert!(
            told.contains("kept back by this system's operator"),
            "{told}"
        );
        // The domain may send, so it is the domain that tells.
        assert!(told.contains("DKIM-Signature"), "{told}");
        assert!(sink.received().is_empty());
        let custody = world.stop().await;
        assert!(!is_any_late(&custody));
    }
}

#[tokio::test]
async fn what_would_be_told_a_tenant_on_hold_is_not() {
    let (_sink, _home, setup) = receivers().await;
    let world = World::start(setup);
    order(&world, Verb::Hold, "apps/app").await;
    world.accept(&["you@example.org"]).await;
    assert_eq!(world.custody.report().held, 1);
    assert!(!is_any_late(&world.custody));
    order(&world, Verb::Hold, "example.org").await;
    order(&world, Verb::Release, "apps/app").await;
    assert!(is_any_late(&world.custody));
    world.stop().await;
}
