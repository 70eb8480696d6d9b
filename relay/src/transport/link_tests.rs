//! Links over in-memory connections, in paused time.

use std::{io, sync::Mutex};

use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

use super::*;
use crate::transport::{Payload, Stage};

/// Octets the network holds on the way.
const PIPE: usize = 1024;

/// Tokio's clock, which stands still while something can be done and then jumps.
struct PausedClock {
    start: tokio::time::Instant,
}

impl Clock for PausedClock {
    fn wall(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Gives out one connection.
struct OneConnection(Mutex<Option<DuplexStream>>);

impl Network for OneConnection {
    fn connect(&self, _: SocketAddr, _: Duration) -> BoxFuture<'_, io::Result<Connection>> {
        let stream = self.0.lock().unwrap().take();
        Box::pin(async move {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            stream.map(|s| Box::new(s) as Connection).ok_or(refused)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is a Clock for tests")]
fn world() -> (LinkOptions, Destination, DuplexStream) {
    let (ours, theirs) = duplex(PIPE);
    let options = LinkOptions {
        own_name: "mail.example.net".into(),
        port: 25,
        clock: Arc::new(PausedClock {
            start: tokio::time::Instant::now(),
        }),
        network: Arc::new(OneConnection(Mutex::new(Some(ours)))),
        tls: TlsClient::new(rustls::RootCertStore::empty()).unwrap(),
    };
    let destination = Destination {
        host: "mx.example.org".into(),
        address: "192.0.2.1".parse().unwrap(),
    };
    (options, destination, theirs)
}

fn transaction(octets: usize) -> Transaction {
    let body = "0123456789abcdefghijklmnopqrstuvwxyz\r\n".repeat(octets / 38 + 1);
    Transaction {
        sender: None,
        recipients: vec!["a@example.org".parse().unwrap()],
        payload: Payload::new(Bytes::new(), body.into()),
        priority: None,
    }
}

/// A server that greets, then answers each command from `answers`, in order, until they end.
async fn serve(stream: DuplexStream, answers: &'static [&'static str]) -> BufReader<DuplexStream> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"220 mx\r\n").await.unwrap();
    for answer in answers {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
    }
    stream
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up_after_five_minutes() {
    let (options, destination, theirs) = world();
    let opened = Link::open(&destination, Security::Opportunistic, &options).await;
    assert_eq!(opened.err(), Some(Failure::TimedOut(Stage::Greeting)));
    assert_eq!(options.clock.monotonic().as_secs(), 300);
    drop(theirs);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_takes_nothing_is_given_up_after_three() {
    let (options, destination, theirs) = world();
    let server = tokio::spawn(serve(
        theirs,
        &["250 mx\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"],
    ));
    let mut link = Link::open(&destination, Security::Opportunistic, &options)
        .await
        .unwrap();
    let verdicts = link.deliver(transaction(10 * PIPE)).await;
    assert_eq!(verdicts, [Verdict::Broken(Failure::TimedOut(Stage::Body))]);
    assert_eq!(options.clock.monotonic().as_secs(), 180);
    assert!(!link.is_usable());
    drop(server.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_the_middle_of_the_message_is_heard() {
    let (options, destination, theirs) = world();
    let server = tokio::spawn(serve(
        theirs,
        &[
            "250 mx\r\n",
            "250 ok\r\n",
            "250 ok\r\n",
            "354 go\r\n552 5.3.4 too big\r\n",
        ],
    ));
    let mut link = Link::open(&destination, Security::Opportunistic, &options)
        .await
        .unwrap();
    let verdicts = link.deliver(transaction(10 * PIPE)).await;
    assert!(
        matches!(&verdicts[..], [Verdict::Refused(reply)] if reply.code == 552),
        "{verdicts:?}"
    );
    assert!(!link.is_usable());
    drop(server.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_large_message_goes_through_a_small_pipe() {
    let (options, destination, theirs) = world();
    let octets = 200 * PIPE;
    let server = tokio::spawn(async move {
        let mut stream = serve(
            theirs,
            &["250 mx\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"],
        )
        .await;
        let mut seen = 0;
        let mut buffer = [0; 300];
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            seen += count;
            if buffer[..count].ends_with(b"\r\n.\r\n") {
                stream
                    .get_mut()
                    .write_all(b"250 2.0.0 ok\r\n")
                    .await
                    .unwrap();
                return (seen, stream);
            }
        }
    });
    let mut link = Link::open(&destination, Security::Opportunistic, &options)
        .await
        .unwrap();
    let verdicts = link.deliver(transaction(octets)).await;
    assert!(
        matches!(verdicts[..], [Verdict::Accepted(_)]),
        "{verdicts:?}"
    );
    let (seen, stream) = server.await.unwrap();
    assert!(seen > octets);
    // The server goes away; the link says so and is of no more use.
    drop(stream);
    let verdicts = link.deliver(transaction(10)).await;
    assert!(
        matches!(
            verdicts[..],
            [Verdict::Broken(Failure::Lost {
                stage: Stage::Mail,
                ..
            })]
        ),
        "{verdicts:?}"
    );
    link.quit().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_refuses_is_a_failed_connection() {
    let (options, destination, _theirs) = world();
    drop(
        options
            .network
            .connect("192.0.2.1:25".parse().unwrap(), Duration::ZERO)
            .await,
    );
    let opened = Link::open(&destination, Security::Plain, &options).await;
    assert!(matches!(opened.err(), Some(Failure::Connect(_))));
}
