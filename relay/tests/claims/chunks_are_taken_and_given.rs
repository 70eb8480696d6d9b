//! A message may come in chunks (RFC 3030), by the same rules as after DATA, and leaves as one where
//! the receiver takes chunks.

use postrider_crds::relay_config::Admission::Send;

use crate::support::{Client, Received, World, domain, message};

const TO: &str = "a@receiver.example";

async fn began(world: &World) -> Client {
    let mut client = Client::login(world, "ann").await;
    for command in ["MAIL FROM:<ann@example.com>", &format!("RCPT TO:<{TO}>")] {
        let reply = client.ask(command).await;
        assert!(reply.starts_with("250 "), "{reply}");
    }
    client
}

#[tokio::test]
async fn in_pieces_and_all_at_once() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let _relay = world.relay().await;
    let mut client = began(&world).await;
    let text = message("ann@example.com", "pieces.") + ".\r\nQUIT\r\n..\r\n";
    let (head, tail) = text.split_at(40);
    let (head_size, tail_size) = (head.len(), tail.len());
    let input = format!("BDAT {head_size}\r\n{head}BDAT {tail_size} LAST\r\n{tail}NOOP\r\n");
    client.send(input.as_bytes()).await;
    let reply = client.reply().await;
    assert!(reply.starts_with("250 2.0.0 40 octets"), "{reply}");
    let reply = client.reply().await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    assert!(client.reply().await.starts_with("250 "));
    let ours = |m: &Received| m.data.contains("Subject: pieces.");
    let received = world.sink.wait("the message", ours).await;
    assert!(received.data.ends_with(&text), "{}", received.data);
}

#[tokio::test]
async fn what_is_no_text_is_refused_and_skipped() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let mut client = began(&world).await;
    let text = message("ann@example.com", "bad.") + "\n.\r\nMAIL FROM:<x@example.com>\r\n";
    let size = text.len();
    client
        .send(format!("BDAT {size} LAST\r\n{text}NOOP\r\n").as_bytes())
        .await;
    let reply = client.reply().await;
    assert!(reply.starts_with("550 5.6.11 "), "{reply}");
    let reply = client.reply().await;
    assert!(reply.starts_with("250 2.0.0 ok"), "{reply}");
    let text = "QUIT\r\n";
    client
        .send(format!("BDAT {} LAST\r\n{text}NOOP\r\n", text.len()).as_bytes())
        .await;
    let reply = client.reply().await;
    assert!(reply.starts_with("503 5.5.1 "), "{reply}");
    assert!(client.reply().await.starts_with("250 2.0.0 ok"));
    relay.events.wait("rejected", |e| e["code"] == 503).await;
    let reply = client.ask("BDAT all LAST").await;
    assert!(reply.starts_with("501 5.5.4 "), "{reply}");
    assert!(client.reply().await.starts_with("421 "));
    assert_eq!(client.reply().await, "");
}

#[tokio::test]
async fn receivers_get_them_where_they_take_them() {
    for (offers, command) in [
        (&[][..], "DATA"),
        (&["PIPELINING"], "DATA"),
        (&["CHUNKING"], "BDAT"),
        (&["CHUNKING", "PIPELINING"], "BDAT"),
    ] {
        let world = World::new(vec![domain("example.com", Send)]).await;
        world.sink.offer(offers);
        let relay = world.relay().await;
        let mut client = Client::login(&world, "ann").await;
        let text = message("ann@example.com", "given.") + ".dot\r\n..\r\n";
        let unknown = "unknown@receiver.example";
        let stuffed = text.replace("\r\n.", "\r\n..");
        let to = [unknown, TO];
        let id = client.accepted("ann@example.com", &to, &stuffed).await;
        relay.events.of("delivered", &id).await;
        relay.events.of("bounced", &id).await;
        let ours = |m: &Received| m.data.contains("Subject: given.") && m.recipients == [TO];
        let received = world.sink.wait("the message", ours).await;
        assert_eq!(received.command, command, "{offers:?}");
        assert!(
            received.data.ends_with(&text),
            "{offers:?}: {}",
            received.data
        );
        // The next message finds the session in order.
        let text = message("ann@example.com", "next.");
        let id = client.accepted("ann@example.com", &[unknown], &text).await;
        relay.events.of("bounced", &id).await;
        let id = client.accepted("ann@example.com", &[TO], &text).await;
        relay.events.of("delivered", &id).await;
    }
}
