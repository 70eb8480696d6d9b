//! Mail of a higher priority (RFC 6710) overtakes what its tenant has waiting for the site, over a
//! kill -9 too, and takes nothing from other tenants. Receivers are told.

use postrider_crds::relay_config::{Admission::Send, DomainEntry, Sender};
use serde_json::json;

use crate::support::{Client, Received, World, domain, message};

const ANN: &str = "<ann@example.com>";
const TO: &str = "a@receiver.example";

/// A domain that ann and bob may send as.
fn shared() -> DomainEntry {
    let mut domain = domain("example.com", Send);
    domain.senders.push(Sender {
        username: "bob".into(),
        addresses: Vec::new(),
    });
    domain
}

/// Submits a message with this sender and what follows it in MAIL; its id.
async fn submit(client: &mut Client, sender: &str, to: &str, text: &str) -> String {
    let (mail, recipient) = (format!("MAIL FROM:{sender}"), format!("RCPT TO:<{to}>"));
    for command in [mail.as_str(), &recipient, "DATA"] {
        let reply = client.ask(command).await;
        assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
    }
    client.send(format!("{text}.\r\n").as_bytes()).await;
    let reply = client.reply().await;
    let id = reply.strip_prefix("250 2.0.0 queued as ");
    id.unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// Messages of one kind.
const EACH: usize = 24;

#[tokio::test]
async fn and_no_one_elses() {
    let mut world = World::new(vec![shared()]).await;
    world.relay_config.delivery.connections_per_site = 1;
    world.write_relay_config();
    let relay = world.relay().await;
    let site = "mx.receiver.example";
    let order = |verb| json!({"verb": verb, "site": site, "reason": "a backlog"});
    world.order(order("suspend")).await;
    let mut ann = Client::login(&world, "ann").await;
    let mut bob = Client::login(&world, "bob").await;
    for _ in 0..EACH {
        let low = message("ann@example.com", "ann's.");
        submit(&mut ann, ANN, TO, &low).await;
        let others = message("bob@example.com", "bob's.");
        submit(&mut bob, "<bob@example.com>", TO, &others).await;
    }
    for _ in 0..EACH {
        let urgent = message("ann@example.com", "urgent.");
        submit(&mut ann, &format!("{ANN} MT-PRIORITY=9"), TO, &urgent).await;
    }
    let all = 3 * EACH;
    world
        .report_where(|report| report.queue.suspended == all as u64)
        .await;
    relay.kill().await;
    let _relay = world.relay().await;
    world
        .report_where(|report| report.queue.suspended == all as u64)
        .await;
    world.order(order("resume")).await;
    let received = world.sink.wait_for(all).await;

    let subjects: Vec<_> = received.iter().map(kind).collect();
    let before = |what, of| {
        let last = subjects.iter().rposition(|kind| *kind == what).unwrap();
        let before = subjects[..last].iter().filter(|kind| **kind == of);
        before.count()
    };
    // One claim in eight goes to the backlog, and what is in hand for a connection is.
    let overtaken = EACH - before("urgent", "ann");
    assert!(overtaken >= EACH / 2, "{subjects:?}");
    // While both have mail, each is served as much; a claim or two of many are apart.
    let others = before("urgent", "bob");
    assert!(others + 12 >= EACH, "{subjects:?}");
}

/// Whose a message is, or that it is urgent.
fn kind(received: &Received) -> &'static str {
    let has = |subject: &str| received.data.contains(&format!("Subject: {subject}"));
    match (has("urgent."), has("ann's."), has("bob's.")) {
        (true, ..) => "urgent",
        (_, true, _) => "ann",
        (.., true) => "bob",
        (false, false, false) => "another",
    }
}

#[tokio::test]
async fn and_receivers_are_told() {
    let plain = message("ann@example.com", "told.");
    let tunneled = format!("MT-Priority: -4 (bulk)\r\n{plain}");
    let twice = format!("MT-Priority: 4\r\n{tunneled}");
    let cases = [
        (" MT-PRIORITY=4", &plain, Some("4")),
        ("", &tunneled, Some("-4")),
        // What MAIL says counts.
        (" MT-PRIORITY=5", &tunneled, Some("5")),
        (" MT-PRIORITY=0", &tunneled, Some("0")),
        // What says two things says nothing, and is replaced by what holds.
        ("", &twice, Some("0")),
        ("", &plain, None),
    ];
    for offers in [&["MT-PRIORITY"][..], &[]] {
        let world = World::new(vec![shared()]).await;
        world.sink.offer(offers);
        let relay = world.relay().await;
        let mut ann = Client::login(&world, "ann").await;
        for (number, (parameters, text, priority)) in (1..).zip(cases) {
            let case = format!("{offers:?}{parameters} {text}");
            let sender = format!("{ANN}{parameters}");
            let id = submit(&mut ann, &sender, TO, text).await;
            let accepted = relay.events.of("accepted", &id).await;
            let told = accepted.get("priority").map(ToString::to_string);
            assert_eq!(told.as_deref(), priority, "{case}");
            let received = world.sink.wait_for(number).await.pop().unwrap();
            let (header, _) = received.data.split_once("\r\n\r\n").unwrap();
            let fields = header
                .lines()
                .filter(|line| line.starts_with("MT-Priority:"));
            let field = priority.map(|number| format!("MT-Priority: {number}"));
            let parameter = format!(" MT-PRIORITY={}", priority.unwrap_or("0"));
            let (with_mail, in_text) = match offers {
                [] => (String::new(), field),
                _ => (parameter, None),
            };
            assert_eq!(received.parameters, with_mail, "{case}");
            assert_eq!(
                fields.collect::<Vec<_>>(),
                Vec::from_iter(in_text.as_deref()),
                "{case}"
            );
            let trace =
                priority.map_or_else(|| ">;".into(), |number| format!("> PRIORITY {number};"));
            assert!(
                header.contains(&format!(" for <{TO}{trace}")),
                "{case}: {header}"
            );
        }
    }
}

#[tokio::test]
async fn and_so_do_notifications_about_it() {
    let world = World::new(vec![shared()]).await;
    world.sink.offer(&["MT-PRIORITY"]);
    let _relay = world.relay().await;
    let mut ann = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "to nobody.");
    let sender = format!("{ANN} MT-PRIORITY=4");
    submit(&mut ann, &sender, "unknown@receiver.example", &text).await;
    let is_notification = |received: &Received| received.from.is_empty();
    let notification = world.sink.wait("a notification", is_notification).await;
    assert_eq!(notification.parameters, " MT-PRIORITY=4");
}
