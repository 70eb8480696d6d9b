//! The scripted receiver does what its rules say and writes down what it saw.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{net::SocketAddr, path::Path, time::Duration};

use postrider_e2e::peers::{
    Client, Reply, StopOnDrop, Submission, Tls,
    sink::{Login, Rules, Script, Sink, SinkProcess, StartTls, read_transactions},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const BOUND: Duration = Duration::from_secs(30);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn rules(recipients: &[(&str, Script)]) -> Rules {
    Rules {
        recipients: recipients
            .iter()
            .map(|(who, script)| ((*who).to_owned(), *script))
            .collect(),
        ..Rules::default()
    }
}

async fn start(dir: &Path, rules: Rules) -> Sink {
    Sink::start(dir, ANY, "sink.test", rules).await.unwrap()
}

fn client(sink: &Sink, dir: &Path, tls: Tls) -> Client {
    let ca_file = dir.join("ca.pem");
    std::fs::write(&ca_file, sink.certificate().pem()).unwrap();
    Client {
        host: sink.address().ip().to_string(),
        address: None,
        port: sink.address().port(),
        tls,
        ca_file: Some(ca_file),
        user: None,
        password: String::new(),
    }
}

async fn send(client: &Client, recipients: &[&str]) -> Vec<Reply> {
    let messages: Vec<_> = recipients
        .iter()
        .map(|to| Submission {
            from: "a@from.test".to_owned(),
            to: (*to).to_owned(),
            subject: "s".to_owned(),
            body: ".leading dot\n".to_owned(),
            headers: Default::default(),
        })
        .collect();
    client.send(&messages).await.unwrap()
}

/// Says all of `text` at once and returns all that is said until the sink hangs up.
async fn say(sink: &Sink, text: &str) -> String {
    let mut stream = TcpStream::connect(sink.address()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A reset after the last reply is a way of hanging up, too.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn each_recipient_meets_its_rule() {
    let dir = tempfile::tempdir().unwrap();
    let rules = rules(&[
        ("unknown@to.test", Script::UnknownUser),
        ("@grey.test", Script::GreylistAttempts { attempts: 1 }),
        ("later@to.test", Script::Defer),
        ("full@to.test", Script::DeferMessage),
        ("spam@to.test", Script::RejectMessage),
    ]);
    let sink = start(dir.path(), rules).await;
    let recipients = [
        "b@to.test",
        "unknown@to.test",
        "x@grey.test",
        "x@grey.test",
        "later@to.test",
        "full@to.test",
        "spam@to.test",
    ];
    let client = client(&sink, dir.path(), Tls::None);
    let replies = send(&client, &recipients).await;
    let decided: Vec<_> = replies
        .iter()
        .map(|reply| (reply.command.as_str(), reply.code))
        .collect();
    let wanted = [
        ("DATA", 250),
        ("RCPT", 550),
        ("RCPT", 450),
        ("DATA", 250),
        ("RCPT", 451),
        ("DATA", 452),
        ("DATA", 554),
    ];
    assert_eq!(decided, wanted, "{replies:#?}");
    let seen = sink.wait_for(BOUND, |all| all.len() == 7).await.unwrap();
    let accepted: Vec<_> = seen.iter().map(|one| one.accepted()).collect();
    assert_eq!(accepted, [true, false, false, true, false, false, false]);
    assert_eq!(
        seen[2].recipients[0].text,
        "4.7.1 greylisted, try again later"
    );
    let raw = std::fs::read_to_string(seen[0].message.as_ref().unwrap()).unwrap();
    assert!(raw.ends_with("\r\n\r\n.leading dot\r\n"), "{raw}");
    assert_eq!(read_transactions(dir.path()).unwrap(), seen);
}

#[tokio::test]
async fn starttls_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let sink = start(dir.path(), Rules::default()).await;
    let client = client(&sink, dir.path(), Tls::StartTls);
    let replies = send(&client, &["b@to.test"]).await;
    assert!(replies[0].accepted, "{replies:?}");
    let seen = sink.wait_for(BOUND, |all| all.len() == 1).await.unwrap();
    assert_eq!(seen[0].tls.as_deref(), Some("TLSv1_3"));
    assert_eq!(seen[0].mail_from, "a@from.test");
}

#[tokio::test]
async fn a_login_is_wanted_where_the_rules_say() {
    let dir = tempfile::tempdir().unwrap();
    let login = Login {
        user: "app".to_owned(),
        password: "s3cret".to_owned(),
    };
    let rules = Rules {
        login: Some(login),
        ..Rules::default()
    };
    let sink = start(dir.path(), rules).await;
    let mut client = client(&sink, dir.path(), Tls::StartTls);
    let replies = send(&client, &["b@to.test"]).await;
    assert_eq!(
        (replies[0].command.as_str(), replies[0].code),
        ("MAIL", 530)
    );
    client.user = Some("app".to_owned());
    client.password = "wrong".to_owned();
    let refused = client.send(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("535"), "{refused}");
    client.password = "s3cret".to_owned();
    assert!(send(&client, &["b@to.test"]).await[0].accepted);
    client.tls = Tls::None;
    assert!(client.send(&[]).await.is_err());
}

#[tokio::test]
async fn a_refused_starttls_fails_the_client_that_wants_it() {
    for starttls in [StartTls::Refused, StartTls::Absent, StartTls::Broken] {
        let dir = tempfile::tempdir().unwrap();
        let rules = Rules {
            starttls,
            ..Rules::default()
        };
        let sink = start(dir.path(), rules).await;
        let client = client(&sink, dir.path(), Tls::StartTls);
        assert!(client.send(&[]).await.is_err(), "{starttls:?}");
    }
}

#[tokio::test]
async fn what_is_not_crlf_ends_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let sink = start(dir.path(), Rules::default()).await;
    let begin = "EHLO x\r\nMAIL FROM:<a@from.test>\r\nRCPT TO:<b@to.test>\r\nDATA\r\n";
    let long = format!("{}\r\n", "x".repeat(1000));
    let table = [
        ("EHLO x\n".to_owned(), "521 5.5.2 bare line feed\r\n"),
        (
            "EHLO x\ry\r\n".to_owned(),
            "521 5.5.2 bare carriage return\r\n",
        ),
        (long.clone(), "521 5.5.2 line too long\r\n"),
        (format!("{begin}a\n.\nMAIL"), "521 5.5.2 bare line feed\r\n"),
        (format!("{begin}a\r\n.\n"), "521 5.5.2 bare line feed\r\n"),
        (format!("{begin}{long}.\r\n"), "521 5.5.2 line too long\r\n"),
    ];
    for (text, wanted) in table {
        let answer = say(&sink, &text).await;
        assert!(answer.ends_with(wanted), "{text:?}: {answer}");
    }
    let seen = sink.wait_for(BOUND, |all| all.len() == 3).await.unwrap();
    assert!(
        seen.iter()
            .all(|one| one.message.is_none() && !one.accepted())
    );
}

#[tokio::test]
async fn a_dropped_connection_leaves_its_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let rules = rules(&[
        ("data@to.test", Script::DropAtData),
        ("end@to.test", Script::DropAfterMessage),
    ]);
    let sink = start(dir.path(), rules).await;
    for (recipient, last) in [
        ("data@to.test", "250 2.1.5 ok\r\n"),
        ("end@to.test", "354 end with a dot on a line by itself\r\n"),
    ] {
        let text = format!(
            "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nSubject: s\r\n\r\n.\r\n"
        );
        let answer = say(&sink, &text).await;
        assert!(answer.ends_with(last), "{recipient}: {answer}");
    }
    let seen = sink.wait_for(BOUND, |all| all.len() == 2).await.unwrap();
    assert!(seen.iter().all(|one| one.reply.is_none()));
    let whole: Vec<_> = seen.iter().map(|one| one.message.is_some()).collect();
    assert_eq!(whole, [false, true]);
}

#[tokio::test]
async fn as_a_process_it_leaves_its_list() {
    let dir = tempfile::tempdir().unwrap();
    let _end = StopOnDrop(dir.path().to_owned());
    let listen = SocketAddr::from((postrider_e2e::peers::loopback(41), 2525));
    let program = Path::new(env!("CARGO_BIN_EXE_e2e-sink"));
    let rules = rules(&[("@to.test", Script::UnknownUser)]);
    let sink = SinkProcess::start(dir.path(), program, listen, &rules)
        .await
        .unwrap();
    let client = Client {
        host: listen.ip().to_string(),
        address: None,
        port: listen.port(),
        tls: Tls::None,
        ca_file: None,
        user: None,
        password: String::new(),
    };
    let replies = send(&client, &["b@to.test", "c@other.test"]).await;
    let codes: Vec<_> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [550, 250]);
    let before = sink.transactions().unwrap();
    sink.stop().await.unwrap();
    assert!(TcpStream::connect(listen).await.is_err());
    let after = read_transactions(dir.path()).unwrap();
    assert_eq!(after, before);
    assert!(after[0].is_for("b@to.test") && after[1].accepted());
}
