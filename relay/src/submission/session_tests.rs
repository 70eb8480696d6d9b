//! Tables and properties of the session.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Settings, sample},
    mail::{BodyKind, EnhancedCode, Priority, Reply},
    telemetry::RejectReason,
};

static SETTINGS: LazyLock<Settings> = LazyLock::new(sample::settings);

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// `ann` with the password `secret`.
const AUTH: &str = "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n";
const HELLO: &str = "EHLO client.example\r\n";

/// What a session did: everything written, and the messages it handed over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transcript {
    written: String,
    accepted: Vec<Submission>,
    refused: usize,
    closed: bool,
}

/// Runs a session whose every login with the password `secret` passes and whose every message is
/// taken.
fn settle(session: &mut Session, transcript: &mut Transcript) {
    while let Some(action) = session.next_action(&SETTINGS) {
        match action {
            Action::Write(octets) => {
                transcript.written += std::str::from_utf8(&octets).unwrap();
            }
            Action::Refused(_) => transcript.refused += 1,
            Action::StartTls => session.tls_started(&SETTINGS),
            Action::Verify(attempt) => {
                let credential = SETTINGS.credentials.get(&attempt.username);
                let credential = credential.filter(|_| attempt.password == b"secret");
                session.verified(credential.map_or(Verdict::Wrong, |credential| {
                    Verdict::Right(Login {
                        username: credential.username.clone(),
                        tenant: credential.tenant.clone(),
                        proof: Proof::Password(credential.verifier.fingerprint()),
                    })
                }));
            }
            Action::Accept(submission) => {
                transcript.accepted.push(*submission);
                session.answered(Ok(Reply::new(250, EnhancedCode(2, 0, 0), "queued")));
            }
            Action::Close => transcript.closed = true,
        }
    }
}

fn secured() -> (Session, Transcript) {
    let mut session = Session::new(Door::ImplicitTls, CLIENT, &SETTINGS, Duration::ZERO);
    let mut transcript = Transcript::default();
    settle(&mut session, &mut transcript);
    assert_eq!(
        transcript.written, "",
        "nothing is said before the handshake"
    );
    session.tls_started(&SETTINGS);
    settle(&mut session, &mut transcript);
    (session, transcript)
}

fn converse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Transcript {
    let (mut session, mut transcript) = secured();
    for chunk in chunks {
        session.receive(chunk, Duration::ZERO);
        settle(&mut session, &mut transcript);
    }
    transcript
}

/// The codes of the replies after login.
fn codes_of(input: &str) -> Vec<String> {
    let start = format!("{HELLO}{AUTH}");
    let skip = converse([start.as_bytes()]).written.lines().count();
    let transcript = converse([start.as_bytes(), input.as_bytes()]);
    let codes = transcript.written.lines().skip(skip);
    codes.map(|line| line.chars().take(3).collect()).collect()
}

#[test]
fn a_message_is_handed_over_as_it_came() {
    let input = format!(
        "{HELLO}{AUTH}MAIL FROM:<ann@example.com> BODY=8BITMIME\r\nRCPT TO:<a@example.net>\r\n\
         RCPT TO:<b@example.net>\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n"
    );
    let transcript = converse([input.as_bytes()]);
    let [submission] = transcript.accepted.as_slice() else {
        panic!("{transcript:?}");
    };
    assert_eq!(submission.message.as_bytes(), b"Subject: x\r\n\r\n.dot\r\n");
    assert_eq!(submission.recipients.len(), 2);
    assert_eq!(submission.helo, "client.example");
    assert_eq!(submission.login.tenant, "apps/ann");
    assert!(transcript.closed && transcript.refused == 0);
    assert!(
        transcript
            .written
            .starts_with("220 mail-2.example.net ESMTP")
    );
    assert!(
        transcript
            .written
            .contains("250-SIZE 10000\r\n250 AUTH PLAIN LOGIN\r\n")
    );
}

#[test]
fn a_priority_is_taken_or_refused_by_name() {
    let began = format!("{HELLO}{AUTH}");
    let rest = "RCPT TO:<a@example.net>\r\nDATA\r\nx\r\n.\r\n";
    for (parameter, priority) in [
        ("", None),
        (" MT-PRIORITY=9", Some(9)),
        (" MT-PRIORITY=0", Some(0)),
        (" mt-priority=-9", Some(-9)),
    ] {
        let input = format!("{began}MAIL FROM:<ann@example.com>{parameter}\r\n{rest}");
        let transcript = converse([input.as_bytes()]);
        let [submission] = transcript.accepted.as_slice() else {
            panic!("{transcript:?}");
        };
        assert_eq!(submission.priority.map(Priority::number), priority);
        assert!(transcript.written.contains("250-MT-PRIORITY\r\n"));
    }
    for (parameter, text) in [
        (
            "MT-PRIORITY=10",
            "\"10\" is no priority; give a whole number from -9 to 9",
        ),
        (
            "MT-PRIORITY=",
            "\"\" is no priority; give a whole number from -9 to 9",
        ),
        (
            "MT-PRIORITY",
            "\"\" is no priority; give a whole number from -9 to 9",
        ),
        (
            "MT-PRIORITY=low",
            "\"low\" is no priority; give a whole number from -9 to 9",
        ),
        ("MT-PRIORITY=1 MT-PRIORITY=2", "two MT-PRIORITY; keep one"),
    ] {
        let input = format!("{began}MAIL FROM:<ann@example.com> {parameter}\r\n{rest}");
        let transcript = converse([input.as_bytes()]);
        let refused = transcript
            .written
            .lines()
            .find(|line| line.starts_with("501 "));
        let refused = refused.unwrap_or_else(|| panic!("{parameter}: {}", transcript.written));
        assert!(
            refused.starts_with("501 5.5.2 MAIL FROM ") && refused.ends_with(text),
            "{refused}"
        );
        assert!(transcript.accepted.is_empty());
    }
}

/// The text of the one message `input` hands over, and the codes of the replies.
fn chunked(input: &str) -> (Vec<String>, Vec<String>) {
    let start = format!("{HELLO}{AUTH}MAIL FROM:<>\r\nRCPT TO:<a@example.net>\r\n");
    let skip = converse([start.as_bytes()]).written.lines().count();
    let transcript = converse([start.as_bytes(), input.as_bytes()]);
    let codes = transcript.written.lines().skip(skip);
    let codes = codes.map(|line| line.chars().take(3).collect()).collect();
    let text = |s: &Submission| String::from_utf8(s.message.as_bytes().to_vec()).unwrap();
    (codes, transcript.accepted.iter().map(text).collect())
}

#[test]
fn chunks_make_a_message_and_nothing_in_them_is_a_command_or_an_end() {
    for (input, codes, text) in [
        (
            "BDAT 9 LAST\r\na\r\n.\r\nb\r\nNOOP\r\n".to_owned(),
            &["250", "250"][..],
            "a\r\n.\r\nb\r\n",
        ),
        (
            "BDAT 4\r\na\r\nbBDAT 2\r\nc\rBDAT 1\r\n\nBDAT 0 LAST\r\n".into(),
            &["250"; 4],
            "a\r\nbc\r\n",
        ),
        (
            "BDAT 12 LAST\r\nQUIT\r\nQUIT\r\nNOOP\r\n".into(),
            &["250", "250"],
            "QUIT\r\nQUIT\r\n",
        ),
        ("BDAT 1 LAST\r\nxNOOP\r\n".into(), &["250", "250"], "x\r\n"),
        ("BDAT 0 LAST\r\nNOOP\r\n".into(), &["250", "250"], ""),
    ] {
        let (found, texts) = chunked(&input);
        assert_eq!(
            (found.as_slice(), texts),
            (
                &codes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()[..],
                vec![text.to_owned()]
            ),
            "{input}"
        );
    }
}

#[test]
fn chunks_that_are_refused_are_skipped_and_end_the_message() {
    for (input, codes) in [
        // A bare LF, a bare CR at the end of a chunk's message, a text beyond the limit of 10,000.
        ("BDAT 5\r\na\nb\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n".to_owned(), &["550", "503", "250"][..]),
        ("BDAT 2 LAST\r\na\rNOOP\r\n".into(), &["550", "250"]),
        (format!("BDAT 10002\r\n{}NOOP\r\n", "x\r\n".repeat(3334)), &["552", "250"]),
        ("BDAT 3\r\na\r\nRCPT TO:<b@example.net>\r\nDATA\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n".into(),
            &["250", "503", "503", "250", "503", "250"]),
        ("BDAT 6 LATE\r\nQUIT\r\n".into(), &["501", "421"]),
        ("BDAT\r\nQUIT\r\n".into(), &["501", "421"]),
        ("BDAT\t6 LAST\r\nQUIT\r\n".into(), &["501", "421"]),
        ("BDAT 6 LAST\nQUIT\r\n".into(), &["501", "421"]),
        ("BDAT 6 \u{e9}\r\nQUIT\r\n".into(), &["501", "421"]),
        (format!("BDAT 6 LAST{}\r\nQUIT\r\n", " ".repeat(600)), &["501", "421"]),
        (format!("BDAT 6 LAST{}\r\nQUIT\r\n", " ".repeat(20_000)), &["501", "421"]),
        (format!("NOOP{}\r\nNOOP\r\n", " ".repeat(20_000)), &["500", "250"]),
    ] {
        let (found, texts) = chunked(&input);
        assert_eq!((found.as_slice(), texts.len()), (&codes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()[..], 0), "{input}");
    }
    // Without a recipient the transaction is as it was.
    let input =
        "MAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nRCPT TO:<a@example.net>\r\nBDAT 3 LAST\r\nx\r\n";
    assert_eq!(codes_of(input), ["250", "503", "250", "250"]);
    assert_eq!(codes_of(&"BDAT 2\r\nxx".repeat(100))[99..], ["503", "421"]);
}

#[test]
fn eight_bit_content_is_marked_whatever_was_announced() {
    for (announced, text, kind) in [
        ("", "x", BodyKind::SevenBit),
        ("", "\u{e9}", BodyKind::EightBitMime),
        (" BODY=7BIT", "\u{e9}", BodyKind::EightBitMime),
        (" BODY=8BITMIME", "x", BodyKind::EightBitMime),
    ] {
        let input = format!(
            "{HELLO}{AUTH}MAIL FROM:<>{announced}\r\nRCPT TO:<a@example.net>\r\nDATA\r\n{text}\r\n.\r\n"
        );
        let transcript = converse([input.as_bytes()]);
        assert_eq!(transcript.accepted[0].body_kind, kind, "{announced} {text}");
    }
}

#[test]
fn order_and_limits_are_kept() {
    let mail = "MAIL FROM:<>\r\n";
    let rcpt = "RCPT TO:<a@example.net>\r\n";
    for (input, expected) in [
        (rcpt.to_owned(), &["503"][..]),
        ("DATA\r\n".into(), &["503"]),
        (format!("{mail}DATA\r\n"), &["250", "503"]),
        (format!("{mail}{mail}"), &["250", "503"]),
        (format!("{mail}RSET\r\n{rcpt}"), &["250", "250", "503"]),
        (format!("{mail}{AUTH}"), &["250", "503"]),
        (format!("{mail}EHLO\r\n{rcpt}"), &["250", "501", "250"]),
        ("STARTTLS\r\n".into(), &["503"]),
        ("MAIL FROM:<> SIZE=10001\r\n".into(), &["552"]),
        ("MAIL FROM:<a@example.org>\r\n".into(), &["550"]),
        (
            "VRFY a\r\nHELP\r\nNOOP x\r\nQUIT\r\n".into(),
            &["252", "214", "250", "221"],
        ),
        ("NOOP\nQUIT\r\nNOOP\r\n".into(), &["500", "250"]),
        (
            format!("{mail}{rcpt}DATA\r\na\n.\nb\r\n.\r\nNOOP\r\n"),
            &["250", "250", "354", "550", "250"],
        ),
        (
            format!(
                "{mail}{rcpt}{}NOOP\r\n",
                "RCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nRCPT TO:<d@example.net>\r\n"
            ),
            &["250", "250", "250", "250", "452", "250"],
        ),
    ] {
        assert_eq!(codes_of(&input), expected, "{input}");
    }
}

#[test]
fn a_line_without_end_is_skipped_not_kept() {
    let long = "x".repeat(100_000);
    assert_eq!(codes_of(&format!("{long}\r\nNOOP\r\n")), ["500", "250"]);
    let (mut session, mut transcript) = secured();
    for _ in 0..100 {
        session.receive(long.as_bytes(), Duration::ZERO);
        settle(&mut session, &mut transcript);
    }
    assert!(session.held() < 100_000, "{}", session.held());
}

#[test]
fn wrong_passwords_and_refused_commands_end_the_session() {
    let wrong = "AUTH PLAIN AGFubgB4\r\n".repeat(5);
    let transcript = converse([format!("{HELLO}{wrong}").as_bytes()]);
    assert_eq!(transcript.written.matches("535 5.7.8").count(), 3);
    assert!(transcript.written.contains("421 4.7.0") && transcript.closed);
    let transcript = converse(["FOO\r\n".repeat(200).as_bytes()]);
    assert_eq!(transcript.written.matches("500 5.5.1").count(), 100);
    assert!(transcript.closed);
}

#[test]
fn a_login_that_was_not_looked_at_may_be_tried_again_but_not_for_long() {
    let (mut session, mut transcript) = secured();
    session.receive(HELLO.as_bytes(), Duration::ZERO);
    settle(&mut session, &mut transcript);
    for closes in [false, false, true] {
        session.receive(AUTH.as_bytes(), Duration::ZERO);
        let asked = session.next_action(&SETTINGS);
        assert!(matches!(asked, Some(Action::Verify(_))), "{asked:?}");
        session.verified(Verdict::Unseen);
        settle(&mut session, &mut transcript);
        assert_eq!(transcript.closed, closes);
    }
    assert_eq!(transcript.written.matches("454 4.7.0 ").count(), 3);
    assert!(session.login().is_none());
}

#[test]
fn nothing_is_said_or_believed_before_tls() {
    let mut session = Session::new(Door::StartTls, CLIENT, &SETTINGS, Duration::ZERO);
    let mut transcript = Transcript::default();
    let input = format!("{HELLO}{AUTH}MAIL FROM:<>\r\nSTARTTLS\r\nMAIL FROM:<>\r\n");
    session.receive(input.as_bytes(), Duration::ZERO);
    settle(&mut session, &mut transcript);
    for part in ["250 STARTTLS\r\n", "538 5.7.11 ", "530 5.7.0 "] {
        assert_eq!(transcript.written.matches(part).count(), 1, "{part}");
    }
    assert!(
        transcript
            .written
            .ends_with("220 2.0.0 ready to start TLS\r\n")
    );
    session.receive(AUTH.as_bytes(), Duration::ZERO);
    settle(&mut session, &mut transcript);
    assert!(
        transcript.written.ends_with("give EHLO first\r\n"),
        "{}",
        transcript.written
    );
}

#[test]
fn a_trusted_client_is_known_without_a_login_as_long_as_it_is_listed() {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let trusting = sample::settings_with(|documents| {
        let text = documents.get_mut("config/relay.yaml").unwrap();
        text.extend_from_slice(b"trustedClients: [{address: 127.0.0.1, username: ann}]");
    });
    let mut session = Session::new(Door::StartTls, client, &trusting, Duration::ZERO);
    assert_eq!(session.login().unwrap().username, "ann");
    let input = format!(
        "{HELLO}MAIL FROM:<x@example.org>\r\nMAIL FROM:<ann@example.com>\r\n\
         RCPT TO:<a@example.net>\r\nDATA\r\nx\r\n.\r\n"
    );
    session.receive(input.as_bytes(), Duration::ZERO);
    let mut written = String::new();
    let mut taken = None;
    while let Some(action) = session.next_action(&trusting) {
        match action {
            Action::Write(octets) => written += std::str::from_utf8(&octets).unwrap(),
            Action::Accept(submission) => taken = Some(submission),
            _ => {}
        }
    }
    assert!(
        written.contains("550 5.7.1 ") && !written.contains("AUTH"),
        "{written}"
    );
    let submission = taken.expect("is handed over");
    assert_eq!(submission.login.proof, Proof::Address);
    assert_eq!(submission.transmission, Transmission::Esmtp);
    session.answered(Ok(Reply::new(250, EnhancedCode(2, 0, 0), "queued")));
    // From now on it is not listed.
    session.receive(b"MAIL FROM:<ann@example.com>\r\n", Duration::ZERO);
    let mut transcript = Transcript::default();
    settle(&mut session, &mut transcript);
    assert!(
        transcript.written.contains("530 5.7.0 "),
        "{}",
        transcript.written
    );
}

#[test]
fn a_changed_credential_ends_the_session_and_any_other_change_does_not() {
    let mail = "MAIL FROM:<ann@example.com>\r\nRSET\r\n";
    let same = sample::settings_with(|documents| {
        let text = documents.get_mut("credentials/credentials.yaml").unwrap();
        text.extend_from_slice(b"# changed\n");
    });
    let others = sample::with_password("bob", "changed");
    let changed = sample::with_password("ann", "changed");
    let gone = sample::settings_with(|documents| {
        documents.remove("credentials/credentials.yaml");
    });
    for (settings, codes) in [
        (&same, &["250", "250"][..]),
        (&others, &["250", "250"]),
        (&changed, &["421"]),
        (&gone, &["421"]),
    ] {
        let (mut session, mut transcript) = secured();
        session.receive(format!("{HELLO}{AUTH}{mail}").as_bytes(), Duration::ZERO);
        settle(&mut session, &mut transcript);
        session.receive(format!("{mail}NOOP\r\n").as_bytes(), Duration::ZERO);
        let (mut written, mut refused, mut closed) = (String::new(), Vec::new(), false);
        while let Some(action) = session.next_action(settings) {
            match action {
                Action::Write(octets) => written += std::str::from_utf8(&octets).unwrap(),
                Action::Refused(refusal) => refused.push(refusal.reason),
                Action::Close => closed = true,
                other => panic!("{other:?}"),
            }
        }
        let ended = codes == ["421"];
        let found: Vec<&str> = written.lines().filter_map(|line| line.get(..3)).collect();
        let expected = [codes, if ended { &[] } else { &["250"][..] }].concat();
        assert_eq!((found, closed), (expected, ended), "{written}");
        if ended {
            assert!(written.starts_with("421 4.7.0 MAIL: the credential of \"ann\" has changed"));
            assert_eq!(refused, [RejectReason::Authentication]);
        }
    }
}

#[test]
fn silence_has_an_end_and_so_has_anonymity() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let (mut session, mut transcript) = secured();
    session.receive(HELLO.as_bytes(), minutes(4));
    settle(&mut session, &mut transcript);
    assert_eq!(session.deadline(), minutes(5));
    session.receive(AUTH.as_bytes(), minutes(4));
    settle(&mut session, &mut transcript);
    assert_eq!(session.deadline(), minutes(9));
    session.timed_out();
    settle(&mut session, &mut transcript);
    assert!(transcript.closed && transcript.written.ends_with("connect again\r\n"));
}

#[test]
fn a_text_that_finds_no_room_is_refused_at_its_end() {
    let (mut session, mut transcript) = secured();
    let start = format!("{HELLO}{AUTH}MAIL FROM:<>\r\nRCPT TO:<a@example.net>\r\nDATA\r\nabc\r\n");
    session.receive(start.as_bytes(), Duration::ZERO);
    settle(&mut session, &mut transcript);
    assert_eq!(session.held(), 5);
    session.shed();
    assert_eq!(session.held(), 0);
    session.receive(b"def\r\n.\r\nNOOP\r\n", Duration::ZERO);
    settle(&mut session, &mut transcript);
    assert!(
        transcript.written.contains("452 4.3.1 "),
        "{}",
        transcript.written
    );
    assert!(transcript.written.ends_with("250 2.0.0 ok\r\n") && transcript.accepted.is_empty());
}

#[test]
fn a_drain_waits_for_the_text_under_way() {
    let (mut session, mut transcript) = secured();
    let start = format!("{HELLO}{AUTH}MAIL FROM:<>\r\nRCPT TO:<a@example.net>\r\nDATA\r\n");
    session.receive(start.as_bytes(), Duration::ZERO);
    settle(&mut session, &mut transcript);
    session.drain();
    settle(&mut session, &mut transcript);
    assert!(!transcript.closed);
    session.receive(b"x\r\n.\r\nNOOP\r\n", Duration::ZERO);
    settle(&mut session, &mut transcript);
    assert_eq!(transcript.accepted.len(), 1);
    let end = "250 2.0.0 queued\r\n421 4.3.2 shutting down; connect again\r\n";
    assert!(transcript.closed && transcript.written.ends_with(end));
}

/// Lines that are near the grammar, so that the machine is walked and not only its door.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(vec![
        HELLO,
        AUTH,
        "AUTH LOGIN\r\n",
        "YW5u\r\n",
        "c2VjcmV0\r\n",
        "*\r\n",
        "MAIL FROM:<ann@example.com>\r\n",
        "MAIL FROM:<> BODY=8BITMIME SIZE=20\r\n",
        "RCPT TO:<a@example.net>\r\n",
        "DATA\r\n",
        "BDAT 4\r\nabc\n",
        "BDAT 6 LAST\r\nabcd\r\n",
        "BDAT 0 LAST\r\n",
        "BDAT x\r\n",
        "BDAT\t6\r\n",
        ".\r\n",
        "From: <a@b.example>\r\n",
        "\r\n",
        "text\n",
        ".\n",
        "\r",
        "..x\r\n",
        "RSET\r\n",
        "NOOP\r\n",
        "QUIT\r\n",
        "HELO x\r\n",
    ]);
    prop_oneof![
        9 => known.prop_map(|line| line.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn any_octets_in_any_chunks_give_the_same(
        lines in proptest::collection::vec(line(), 0..40),
        cuts in proptest::collection::vec(1_usize..40, 0..80),
    ) {
        let input = lines.concat();
        let mut chunks = Vec::new();
        let mut rest = &input[..];
        for cut in cuts {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        chunks.push(rest);
        prop_assert_eq!(converse([&input[..]]), converse(chunks));
    }

    #[test]
    fn the_clear_door_never_panics(
        lines in proptest::collection::vec(line(), 0..40),
        tls in any::<bool>(),
    ) {
        let mut session = Session::new(Door::StartTls, CLIENT, &SETTINGS, Duration::ZERO);
        let mut transcript = Transcript::default();
        for (number, line) in lines.iter().enumerate() {
            session.receive(line, Duration::from_secs(number as u64));
            if tls && number == 3 {
                session.receive(b"STARTTLS\r\n", Duration::from_secs(number as u64));
            }
            settle(&mut session, &mut transcript);
        }
        prop_assert!(tls || transcript.accepted.is_empty());
    }
}
