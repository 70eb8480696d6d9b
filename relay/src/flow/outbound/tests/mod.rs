//! Messages through a real spool to scripted servers on loopback.

mod late;
mod orders;
mod sink;
mod world;

use std::sync::Arc;

use postrider_crds::relay_config::{Admission, TlsMode};

use self::{
    sink::{Gate, Greeting, Script, Sink, Tls},
    world::{MESSAGE, SENDER, Setup, World, Zone, server_tls},
};
use super::late::SWEEP;
use crate::mail::ReturnPath;

/// One server for `example.org` at 127.0.0.2.
async fn one(script: Script) -> (Sink, Setup) {
    let (sink, port) = Sink::listen("127.0.0.2", 0, script).await;
    let zone = Zone::default().serve("example.org", &["127.0.0.2"]);
    (sink, Setup::new(zone, port))
}

#[tokio::test]
async fn a_message_arrives_signed_and_with_its_own_return_path() {
    let (sink, setup) = one(Script::default()).await;
    let mut world = World::start(setup);
    let id = world.accept(&["you@example.org"]).await;
    let delivered = world.event("delivered").await;
    assert_eq!(delivered["id"], id.to_string());
    assert_eq!(delivered["host"], "mx.example.org");
    assert_eq!(delivered["enhanced"], "2.0.0");
    let received = sink.received().remove(0);
    assert!(
        received
            .mail
            .starts_with(&format!("MAIL FROM:<bounce+{id}@bounce.example.com> SIZE="))
    );
    assert_eq!(received.recipients, ["RCPT TO:<you@example.org>"]);
    let (signature, message) = received.data.split_once("From: App").unwrap();
    assert!(
        signature.starts_with("DKIM-Signature: ") && signature.contains("s=pr-1; d=example.com")
    );
    assert_eq!(format!("From: App{message}"), MESSAGE);
    let report = world.custody.report();
    assert_eq!((report.due, report.deferred, report.held), (0, 0, 0));
    world.stop().await;
}

#[tokio::test]
async fn a_greylisted_message_is_taken_later() {
    let (sink, setup) = one(Script {
        recipient: |_, before| {
            if before == 0 {
                "450 4.7.1 greylisted"
            } else {
                "250 ok"
            }
        },
        ..Script::default()
    })
    .await;
    let mut world = World::start(setup);
    world.accept(&["you@example.org"]).await;
    let deferred = world.event("deferred").await;
    assert_eq!(
        (&deferred["class"], &deferred["attempt"]),
        (&"greylisted".into(), &1.into())
    );
    assert_eq!(world.custody.report().deferred, 1);
    world.advance("2m");
    assert_eq!(world.event("delivered").await["attempt"], 2);
    assert_eq!(sink.received().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn one_of_many_is_refused_and_the_sender_told() {
    let script = || Script {
        recipient: |line, _| {
            if line.contains("gone") {
                "550 5.1.1 no such user"
            } else {
                "250 ok"
            }
        },
        ..Script::default()
    };
    let (sink, port) = Sink::listen("127.0.0.2", 0, script()).await;
    let (home, _) = Sink::listen("127.0.0.3", port, script()).await;
    let zone = Zone::default()
        .serve("example.org", &["127.0.0.2"])
        .serve("example.com", &["127.0.0.3"]);
    let mut world = World::start(Setup::new(zone, port));
    world
        .accept(&["a@example.org", "gone@example.org", "b@example.org"])
        .await;
    let bounced = world.event("bounced").await;
    assert_eq!(
        (&bounced["recipient"], &bounced["class"]),
        (&"gone@example.org".into(), &"invalid-recipient".into())
    );
    let notified = world.event("notified").await;
    assert_eq!(notified["sender"], SENDER);
    let delivered = world.event("delivered").await;
    assert_eq!(delivered["id"], notified["notification"]);
    assert_eq!(sink.received()[0].recipients.len(), 2);
    let notification = home.received().remove(0);
    assert!(
        notification.mail.starts_with("MAIL FROM:<> "),
        "{}",
        notification.mail
    );
    for part in [
        "DKIM-Signature: ",
        "d=example.com",
        "From: Mail Delivery System <mailer-daemon@bounce.example.com>",
        "Final-Recipient: rfc822; gone@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n",
        "Remote-MTA: dns; mx.example.org",
    ] {
        assert!(
            notification.data.contains(part),
            "{part}\n{}",
            notification.data
        );
    }
    assert!(!notification.data.contains("Final-Recipient: rfc822; a@"));
    world.stop().await;
}

#[tokio::test]
async fn a_connection_lost_after_the_message_is_no_loss() {
    let (sink, setup) = one(Script {
        end: |before| (before > 0).then_some("250 ok"),
        ..Script::default()
    })
    .await;
    let mut world = World::start(setup);
    world.accept(&["you@example.org"]).await;
    assert_eq!(world.event("deferred").await["class"], "network");
    world.advance("2m");
    world.event("delivered").await;
    assert_eq!(sink.received().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn any_certificate_does_unless_it_is_required() {
    for (tls, stage) in [
        (TlsMode::Opportunistic, "delivered"),
        (TlsMode::Required, "deferred"),
    ] {
        let (sink, setup) = one(Script {
            tls: Some(Tls::Works(server_tls("mx.example.org"))),
            ..Script::default()
        })
        .await;
        let mut world = World::start(Setup { tls, ..setup });
        world.accept(&["you@example.org"]).await;
        let event = world.event(stage).await;
        match tls {
            TlsMode::Opportunistic => {
                assert_eq!(event["tls"], "TLSv1.3");
                assert!(sink.received()[0].encrypted);
            }
            TlsMode::Required => {
                assert_eq!(event["class"], "tls");
                assert!(sink.received().is_empty());
            }
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn a_broken_handshake_is_followed_by_clear_text_on_a_new_connection() {
    let (sink, setup) = one(Script {
        tls: Some(Tls::Broken),
        ..Script::default()
    })
    .await;
    let mut world = World::start(setup);
    world.accept(&["you@example.org"]).await;
    assert!(world.event("delivered").await["tls"].is_null());
    assert_eq!(sink.connections(), 2);
    assert!(!sink.received()[0].encrypted);
    world.stop().await;
}

#[tokio::test]
async fn messages_share_a_connection_and_survive_its_end() {
    let (sink, setup) = one(Script {
        patience: 3,
        ..Script::default()
    })
    .await;
    let mut world = World::start(Setup {
        connections: 1,
        ..setup
    });
    for _ in 0..6 {
        world.accept(&["you@example.org"]).await;
    }
    for _ in 0..6 {
        assert_eq!(world.event("delivered").await["attempt"], 1);
    }
    assert_eq!((sink.received().len(), sink.connections()), (6, 2));
    world.stop().await;
}

#[tokio::test]
async fn the_next_address_is_tried_and_the_dead_one_remembered() {
    let (sink, port) = Sink::listen("127.0.0.2", 0, Script::default()).await;
    // Nobody listens at 127.0.0.9.
    let mut zone = Zone::default().serve("example.org", &["127.0.0.9"]);
    zone.mx
        .insert("example.org", vec!["mx.example.org", "mx2.example.org"]);
    zone.addresses.insert("mx2.example.org", vec!["127.0.0.2"]);
    let mut world = World::start(Setup::new(zone, port));
    world.accept(&["you@example.org"]).await;
    assert_eq!(world.event("delivered").await["address"], "127.0.0.2");
    assert_eq!(sink.received().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn without_a_domain_there_is_a_bounce_but_none_for_the_null_sender() {
    let (home, port) = Sink::listen("127.0.0.3", 0, Script::default()).await;
    let zone = Zone::default().serve("example.com", &["127.0.0.3"]);
    let mut world = World::start(Setup::new(zone, port));
    world
        .accept_from(ReturnPath::Null, &["a@nowhere.example"], MESSAGE)
        .await;
    assert_eq!(world.event("bounced").await["enhanced"], "5.1.2");
    world.accept(&["b@nowhere.example"]).await;
    assert_eq!(
        world.event("bounced").await["recipient"],
        "b@nowhere.example"
    );
    world.event("notified").await;
    world.event("delivered").await;
    assert_eq!(home.received().len(), 1);
    assert!(home.received()[0].data.contains("Status: 5.1.2"));
    world.stop().await;
}

#[tokio::test]
async fn held_mail_waits_for_its_domain() {
    let (sink, setup) = one(Script::default()).await;
    let port = setup.port;
    let mut world = World::start(Setup {
        admission: Admission::Hold,
        ..setup
    });
    world.accept(&["you@example.org"]).await;
    world.event("held").await;
    assert_eq!(world.custody.report().held, 1);
    assert_eq!(sink.connections(), 0);
    world.reload(&Setup::new(Zone::default(), port));
    world.event("delivered").await;
    world.stop().await;
}

#[tokio::test]
async fn held_mail_grows_too_old_and_its_sender_is_told_why() {
    let (home, port) = Sink::listen("127.0.0.3", 0, Script::default()).await;
    let zone = Zone::default().serve("example.com", &["127.0.0.3"]);
    let mut world = World::start(Setup {
        admission: Admission::Hold,
        ..Setup::new(zone, port)
    });
    world.accept(&["you@example.org"]).await;
    world.event("held").await;
    world.advance("6d");
    // The next time it is looked for what has grown too old.
    tokio::time::pause();
    tokio::time::advance(SWEEP).await;
    tokio::time::resume();
    let expired = world.event("expired").await;
    assert_eq!(expired["recipient"], "you@example.org");
    assert_eq!(world.event("notified").await["kind"], "failed");
    world.event("delivered").await;
    let [told] = &home.received()[..] else {
        panic!("{:?}", home.received());
    };
    for part in [
        "Status: 5.4.7",
        "example.com may not send: its DKIM record is missing",
        "mail-0.example.net",
    ] {
        assert!(told.data.contains(part), "{part} in {}", told.data);
    }
    // The domain is not spoken for.
    assert!(!told.data.contains("DKIM-Signature"), "{}", told.data);
    let report = world.custody.report();
    assert_eq!((report.due, report.deferred, report.held), (0, 0, 0));
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_signed_is_not_sent() {
    let (sink, setup) = one(Script::default()).await;
    let mut world = World::start(setup);
    let sender = ReturnPath::Mailbox(SENDER.parse().unwrap());
    world
        .accept_from(
            sender,
            &["you@example.org"],
            "Subject: no From\r\n\r\nx\r\n",
        )
        .await;
    let deferred = world.event("deferred").await;
    assert!(
        deferred["reply"].as_str().unwrap().contains("From"),
        "{deferred}"
    );
    assert_eq!(sink.connections(), 0);
    let metrics = world.telemetry.render(&world.custody.figures());
    assert!(
        metrics.contains("postrider_dkim_signing_failures_total 1"),
        "{metrics}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_late_message_is_warned_of_once_and_then_given_up() {
    let (home, port) = Sink::listen("127.0.0.3", 0, Script::default()).await;
    let refusing = Script {
        recipient: |_, _| "450 4.2.1 not now",
        ..Script::default()
    };
    Sink::listen("127.0.0.2", port, refusing).await;
    let zone = Zone::default()
        .serve("example.org", &["127.0.0.2"])
        .serve("example.com", &["127.0.0.3"]);
    let mut world = World::start(Setup::new(zone, port));
    world.accept(&["you@example.org"]).await;
    world.event("deferred").await;
    world.advance("5h");
    assert_eq!(world.event("notified").await["kind"], "delayed");
    world.event("delivered").await;
    world.advance("5h");
    world.event("deferred").await;
    world.advance("5d");
    assert_eq!(world.event("expired").await["recipient"], "you@example.org");
    assert_eq!(world.event("notified").await["kind"], "failed");
    world.event("delivered").await;
    let told = home.received();
    assert_eq!(told.len(), 2);
    assert!(told[0].data.contains("Action: delayed") && told[1].data.contains("Status: 5.4.7"));
    world.stop().await;
}

#[tokio::test]
async fn a_silent_site_holds_up_no_other_and_stopping_leaves_its_mail_queued() {
    let (silent, port) = Sink::listen(
        "127.0.0.4",
        0,
        Script {
            greeting: Greeting::Nothing,
            ..Script::default()
        },
    )
    .await;
    let (sink, _) = Sink::listen("127.0.0.2", port, Script::default()).await;
    let zone = Zone::default()
        .serve("silent.example", &["127.0.0.4"])
        .serve("example.org", &["127.0.0.2"]);
    let mut world = World::start(Setup::new(zone, port));
    for _ in 0..10 {
        world.accept(&["you@silent.example"]).await;
    }
    // Both of its connections are taken before the other message comes.
    world.event("attempt-started").await;
    world.event("attempt-started").await;
    world.accept(&["you@example.org"]).await;
    world.event("delivered").await;
    assert_eq!(sink.received().len(), 1);
    assert!(silent.connections() <= 2);
    let custody = world.stop().await;
    let report = custody.report();
    assert_eq!(report.due + report.deferred, 10);
}

#[tokio::test]
async fn a_long_list_goes_in_several_transactions_over_one_connection() {
    let (sink, setup) = one(Script::default()).await;
    let mut world = World::start(setup);
    let recipients: Vec<String> = (0..250).map(|n| format!("r{n}@example.org")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    world.accept(&recipients).await;
    for _ in &recipients {
        world.event("delivered").await;
    }
    let sizes: Vec<usize> = sink.received().iter().map(|r| r.recipients.len()).collect();
    assert_eq!((sizes, sink.connections()), (vec![100, 100, 50], 1));
    world.stop().await;
}

#[tokio::test]
async fn a_site_that_does_not_move_is_not_asked_and_its_mail_is_attempted_once_each() {
    let silence = || Script {
        greeting: Greeting::Nothing,
        ..Script::default()
    };
    let (silent, port) = Sink::listen("127.0.0.4", 0, silence()).await;
    let (sink, _) = Sink::listen("127.0.0.2", port, Script::default()).await;
    let zone = Zone::default()
        .serve("silent.example", &["127.0.0.4"])
        .serve("example.org", &["127.0.0.2"]);
    let mut world = World::start(Setup {
        connections: 1,
        ..Setup::new(zone, port)
    });
    for _ in 0..300 {
        world.accept(&["you@silent.example"]).await;
    }
    assert_eq!(world.event("attempt-started").await["attempt"], 1);
    for _ in 0..20 {
        world.accept(&["you@example.org"]).await;
    }
    for _ in 0..20 {
        world.event("delivered").await;
    }
    // What has no room waits as it is: due, and not put off.
    let report = world.custody.report();
    assert_eq!((report.due, report.deferred), (300, 0));
    assert_eq!((silent.connections(), sink.received().len()), (1, 20));
    let report = world.stop().await.report();
    assert_eq!(report.due + report.deferred, 300);
}

#[tokio::test]
async fn stopping_lets_a_running_transaction_end_and_begins_no_other() {
    let gate = Arc::new(Gate::default());
    let (sink, setup) = one(Script {
        gate: Some(gate.clone()),
        ..Script::default()
    })
    .await;
    let mut world = World::start(Setup {
        connections: 1,
        ..setup
    });
    world.accept(&["first@example.org"]).await;
    gate.reached.notified().await;
    world.accept(&["second@example.org"]).await;
    world.begin_stop();
    gate.opened.notify_one();
    assert_eq!(
        world.event("delivered").await["recipient"],
        "first@example.org"
    );
    let report = world.stop().await.report();
    assert_eq!((report.due, report.deferred), (1, 0));
    assert_eq!(sink.received().len(), 1);
}
