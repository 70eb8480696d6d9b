//! What may not pass is refused at the right step with a code and a text that say what to do, and
//! the session goes on in step.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, World, domain, get, message};

const TO: [&str; 1] = ["a@receiver.example"];

#[tokio::test]
async fn who_is_not_logged_in() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut clear = Client::connect(&world).await;
    let offer = clear.ask("EHLO client.example").await;
    assert!(
        offer.contains("STARTTLS") && !offer.contains("AUTH"),
        "{offer}"
    );
    let reply = clear.auth("ann", "x").await;
    assert!(reply.starts_with("538 5.7.11 "), "{reply}");
    let reply = clear.ask("MAIL FROM:<ann@example.com>").await;
    assert!(reply.starts_with("530 5.7.0 "), "{reply}");

    let mut client = Client::secured(&world).await;
    let reply = client.ask("MAIL FROM:<ann@example.com>").await;
    assert!(reply.starts_with("530 5.7.0 "), "{reply}");
    for _ in 0..3 {
        let reply = client.auth("ann", "wrong").await;
        assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    }
    assert!(client.reply().await.starts_with("421 4.7.0 "));
    assert_eq!(client.reply().await, "");
    let event = relay.events.wait("rejected", |e| e["code"] == 535).await;
    assert_eq!(event["reason"], "authentication");
    let (_, metrics) = get(world.address, "/metrics").await.unwrap();
    let counted = "postrider_messages_rejected_total{reason=\"authentication\"}";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn what_is_slipped_in_behind_starttls() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let _relay = world.relay().await;
    let mut client = Client::connect(&world).await;
    client.ask("EHLO client.example").await;
    client.send(b"STARTTLS\r\nNOOP\r\n").await;
    assert!(client.reply().await.starts_with("220 "));
    let mut client = client.upgraded().await;
    // Were NOOP obeyed, its reply would come first.
    let reply = client.ask("EHLO client.example").await;
    assert!(reply.contains("AUTH PLAIN LOGIN"), "{reply}");
}

#[tokio::test]
async fn who_may_not_send_as_the_domain() {
    let mut restricted = domain("example.com", Send);
    restricted.senders[0].addresses = vec!["ann@example.com".parse().unwrap()];
    let world = World::new(vec![restricted, domain("example.org", Send)]).await;
    let _relay = world.relay().await;
    let mut ann = Client::login(&world, "ann").await;
    for (from, header, part) in [
        (
            "ann@evil.example",
            "ann@example.com",
            "MAIL FROM <ann@evil.example>",
        ),
        ("ann@example.com", "ceo@evil.example", "evil.example"),
        (
            "ann@example.com",
            "ceo@example.com",
            "spec.senders[].addresses",
        ),
        (
            "ann@example.com",
            "ann@example.com>, <x@example.org",
            "one domain",
        ),
    ] {
        let reply = ann.submit(from, &TO, &message(header, "x")).await;
        assert!(
            reply.starts_with("550 5.7.1 ") && reply.contains(part),
            "{reply}"
        );
    }
    let twice = format!(
        "From: x@evil.example\r\n{}",
        message("ann@example.com", "x")
    );
    let reply = ann.submit("", &TO, &twice).await;
    assert!(
        reply.starts_with("550 5.6.0 ") && reply.contains("from"),
        "{reply}"
    );
    let reply = ann.submit("", &TO, "Subject: x\r\n\r\n").await;
    assert!(
        reply.starts_with("550 5.6.0 ") && reply.contains("From"),
        "{reply}"
    );
    let mut bob = Client::login(&world, "bob").await;
    let reply = bob.submit("", &TO, &message("ann@example.com", "x")).await;
    assert!(
        reply.starts_with("550 5.7.1 ") && reply.contains("bob"),
        "{reply}"
    );
    ann.accepted("", &TO, &message("ANN@example.com", "good"))
        .await;
    world
        .sink
        .wait("the good one", |m| m.data.contains("Subject: good"))
        .await;
    assert_eq!(world.sink.received().len(), 1);
}

#[tokio::test]
async fn what_is_no_mail() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let _relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let good = message("ann@example.com", "good");
    let smuggled = "\n.\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<b@receiver.example>\r\nDATA\r\n";
    for (text, code) in [
        (format!("{good}{smuggled}{good}"), "550 5.6.11 "),
        (format!("{good}a\rb\r\n"), "550 5.6.11 "),
        (format!("{good}{}\r\n", "x".repeat(999)), "550 5.6.0 "),
        (
            format!("{good}{}", "0123456789\r\n".repeat(10_000)),
            "552 5.3.4 ",
        ),
    ] {
        let reply = client.submit("ann@example.com", &TO, &text).await;
        assert!(reply.starts_with(code), "{reply}");
    }
    for (command, code) in [
        ("MAIL FROM:<ann@example.com> SIZE=100001", "552 5.3.4 "),
        ("MAIL FROM:<ann@example.com> RET=HDRS", "555 5.5.4 "),
        ("MAIL FROM:ann@example.com", "501 5.5.2 "),
        ("RCPT TO:<a@receiver.example>", "503 5.5.1 "),
        ("DATA", "503 5.5.1 "),
        ("VRFY ann", "252 "),
        ("BDAT 0 LAST", "503 5.5.1 "),
        ("FOO", "500 5.5.1 "),
    ] {
        let reply = client.ask(command).await;
        assert!(reply.starts_with(code), "{command}: {reply}");
    }
    client.accepted("ann@example.com", &TO, &good).await;
    world.sink.wait("the good one", |_| true).await;
    assert_eq!(world.sink.received().len(), 1);
}

#[tokio::test]
async fn too_many_recipients_and_sessions() {
    let mut world = World::new(vec![domain("example.com", Send)]).await;
    world.relay_config.limits.recipients = 2;
    world.relay_config.limits.sessions = 2;
    world.write_relay_config();
    let _relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    client.ask("MAIL FROM:<ann@example.com>").await;
    for recipient in ["a", "b", "b"] {
        let reply = client
            .ask(&format!("RCPT TO:<{recipient}@receiver.example>"))
            .await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let reply = client.ask("RCPT TO:<c@receiver.example>").await;
    assert!(reply.starts_with("452 4.5.3 "), "{reply}");
    let _second = Client::connect(&world).await;
    let greeting = Client::greeting(&world).await;
    assert!(greeting.starts_with("421 4.3.2 "), "{greeting}");
}
