//! Mail that an ordinary client submits arrives once, signed by both keys, with a trace and a
//! return path of its own.

use std::time::Duration;

use mail_send::{Credentials, SmtpClient, smtp::message::Parameters};
use postrider_crds::relay_config::Admission::Send;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Client, PASSWORD, World, client_tls, domain, get, message};

#[tokio::test]
async fn by_implicit_tls_and_mail_send() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let relay = world.relay().await;
    let stream = TcpStream::connect((world.address, 2465)).await.unwrap();
    let connector = TlsConnector::from(client_tls(&world, None));
    let name = "mail.example.net".try_into().unwrap();
    let mut client = SmtpClient {
        stream: connector.connect(name, stream).await.unwrap(),
        timeout: Duration::from_secs(30),
    };
    assert_eq!(client.read().await.unwrap().code(), 220);
    let offered = client.ehlo("client.example").await.unwrap();
    let credentials = Credentials::new("ann", PASSWORD);
    client.authenticate(&credentials, &offered).await.unwrap();
    let none = Parameters::new();
    client.mail_from("ann@example.com", &none).await.unwrap();
    client.rcpt_to("one@receiver.example", &none).await.unwrap();
    client.rcpt_to("two@receiver.example", &none).await.unwrap();
    let text = message("ann@example.com", "by mail-send") + ".dot\r\n";
    client.data(text).await.unwrap();
    client.quit().await.unwrap();

    let got = world.sink.wait("the message", |_| true).await;
    let id = relay.events.wait("accepted", |_| true).await["id"].clone();
    let id = id.as_str().unwrap();
    assert_eq!(got.from, format!("bounce+{id}@bounce.example.com"));
    assert_eq!(
        got.recipients,
        ["one@receiver.example", "two@receiver.example"]
    );
    assert_eq!(
        got.data.matches("DKIM-Signature:").count(),
        2,
        "{}",
        got.data
    );
    for part in [
        "Received: from client.example ([127.",
        "by mail-1.example.net (Postrider) with ESMTPSA id ",
        "\r\nDate: ",
        "\r\nMessage-ID: <",
        "Subject: by mail-send\r\n",
        "\r\n.dot\r\n",
    ] {
        assert!(got.data.contains(part), "{part:?} in {}", got.data);
    }
    relay.events.of("delivered", id).await;
    let (_, metrics) = get(world.address, "/metrics").await.unwrap();
    assert!(
        metrics.contains("postrider_messages_accepted_total 1"),
        "{metrics}"
    );
    let (code, _) = relay.terminate().await;
    assert_eq!(code, Some(0));
    assert_eq!(world.sink.received().len(), 1);
}

#[tokio::test]
async fn by_starttls_and_pipelining() {
    let world = World::new(vec![domain("example.com", Send)]).await;
    let _relay = world.relay().await;
    let mut client = Client::login(&world, "ann").await;
    let text = message("ann@example.com", "piped");
    client
        .send(b"MAIL FROM:<> BODY=8BITMIME SIZE=200\r\nRCPT TO:<a@receiver.example>\r\nDATA\r\n")
        .await;
    for expected in ["250 2.1.0", "250 2.1.5", "354 "] {
        let reply = client.reply().await;
        assert!(reply.starts_with(expected), "{reply}");
    }
    client
        .send(format!("{text}h\u{e9}\r\n.\r\nQUIT\r\n").as_bytes())
        .await;
    assert!(client.reply().await.starts_with("250 2.0.0 queued as "));
    assert!(client.reply().await.starts_with("221 "));
    assert_eq!(client.reply().await, "");
    let got = world
        .sink
        .wait("the message", |m| m.data.contains("Subject: piped"))
        .await;
    assert!(got.data.ends_with("h\u{e9}\r\n"), "{}", got.data);
}
