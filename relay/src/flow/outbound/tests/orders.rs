//! What operators order, carried out on real sockets.

use postrider_crds::queue::{Command, Scope, Verb};

use super::{
    sink::{Script, Sink},
    world::{MESSAGE, Setup, World, Zone},
};
use crate::mail::ReturnPath;

pub(super) async fn order(world: &World, verb: Verb, scope: &str) {
    let command = Command {
        verb,
        scope: match scope.strip_prefix("mx.") {
            Some(_) => Scope::Site(scope.parse().unwrap()),
            None if scope.contains('/') => Scope::Tenant(scope.to_owned()),
            None => Scope::Domain(scope.parse().unwrap()),
        },
        by: "ann".into(),
        client: "postrider-operator".into(),
        reason: "INC-7".into(),
        until: None,
    };
    world.custody.order(command).await.unwrap();
}

/// A receiver of `example.org` that puts everybody off once, and one of `example.com`.
async fn greylisting() -> (Sink, Sink, World) {
    let later = Script {
        recipient: |_, before| match before {
            0 => "450 4.7.1 later",
            _ => "250 ok",
        },
        ..Script::default()
    };
    let (sink, port) = Sink::listen("127.0.0.2", 0, later).await;
    let (home, _) = Sink::listen("127.0.0.3", port, Script::default()).await;
    let zone = Zone::default()
        .serve("example.org", &["127.0.0.2"])
        .serve("example.com", &["127.0.0.3"]);
    (sink, home, World::start(Setup::new(zone, port)))
}

#[tokio::test]
async fn expiry_tells_the_sender_and_never_a_null_one() {
    let (sink, home, mut world) = greylisting().await;
    world.accept(&["a@example.org"]).await;
    world
        .accept_from(ReturnPath::Null, &["b@example.org"], MESSAGE)
        .await;
    world.event("deferred").await;
    world.event("deferred").await;
    // An order is about what came before it.
    world.advance("1s");
    order(&world, Verb::Hold, "example.org").await;
    order(&world, Verb::Expire, "mx.example.org").await;
    let mut told = [world.event("expired").await, world.event("expired").await];
    told.sort_by_key(|event| event["recipient"].to_string());
    assert_eq!(told[0]["recipient"], "a@example.org");
    assert_eq!(
        (&told[1]["code"], &told[1]["enhanced"]),
        (&554.into(), &"5.4.7".into())
    );
    world.event("order-carried-out").await;
    world.advance("1s");
    world.accept(&["c@example.com"]).await;
    while home.received().len() < 2 {
        world.event("delivered").await;
    }
    assert_eq!(home.received().len(), 2);
    let notices = home.received();
    let notice = notices
        .iter()
        .find(|received| received.mail.starts_with("MAIL FROM:<> "));
    assert!(notice.unwrap().data.contains("Status: 5.4.7"));
    assert!(sink.received().is_empty());
    let report = world.stop().await.report();
    assert_eq!((report.due, report.deferred, report.held), (0, 0, 0));
}

#[tokio::test]
async fn flushing_tries_again_at_once_but_not_what_is_suspended() {
    let (sink, _home, mut world) = greylisting().await;
    world.accept(&["a@example.org"]).await;
    world.event("deferred").await;
    world.advance("1s");
    order(&world, Verb::Suspend, "example.org").await;
    order(&world, Verb::Flush, "mx.example.org").await;
    world.event("order-carried-out").await;
    assert_eq!(world.custody.report().suspended, 1);
    assert!(sink.received().is_empty());
    order(&world, Verb::Resume, "example.org").await;
    assert_eq!(world.event("delivered").await["attempt"], 2);
    world.stop().await;
}
