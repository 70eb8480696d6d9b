//! Tables of what a remote says and what the session makes of it.

use proptest::prelude::*;

use super::*;
use crate::{mail::Priority, transport::Payload};

const NOW: Duration = Duration::from_secs(1000);
const GREETING: &str = "220 mx.example.org ESMTP\r\n";

fn mailbox(text: &str) -> postrider_crds::Mailbox {
    text.parse().unwrap()
}

fn transaction(recipients: &[&str], body: &str) -> Transaction {
    Transaction {
        sender: Some(mailbox("bounce@example.com")),
        recipients: recipients.iter().map(|r| mailbox(r)).collect(),
        payload: Payload::new(
            Bytes::from_static(b"X: 1\r\n"),
            Bytes::copy_from_slice(body.as_bytes()),
        ),
        priority: None,
    }
}

/// A session whose remote says what a test wants.
struct Scene {
    session: Session,
    finished: Vec<Vec<Verdict>>,
    failed: Vec<Failure>,
    ready: bool,
    handshakes: usize,
}

impl Scene {
    fn new(security: Security) -> Self {
        Self {
            session: Session::new("mail.example.net", security, NOW),
            finished: Vec::new(),
            failed: Vec::new(),
            ready: false,
            handshakes: 0,
        }
    }

    /// A session that has got through EHLO with these keywords.
    fn greeted(keywords: &[&str]) -> Self {
        let mut scene = Self::new(Security::Opportunistic);
        assert_eq!(scene.hear(GREETING), "EHLO mail.example.net\r\n");
        let lines: String = keywords.iter().map(|k| format!("250-{k}\r\n")).collect();
        scene.hear(&format!("250-mx\r\n{lines}250 HELP\r\n"));
        scene
    }

    /// Takes what the remote says, gives what is written then.
    fn hear(&mut self, text: &str) -> String {
        self.session.received(text.as_bytes(), NOW);
        self.written()
    }

    fn begin(&mut self, transaction: Transaction) -> String {
        self.session.begin(transaction, NOW);
        self.written()
    }

    fn written(&mut self) -> String {
        let mut out = Vec::new();
        while let Some(action) = self.session.poll() {
            match action {
                Action::Write(bytes) => out.extend_from_slice(&bytes),
                Action::StartTls => {
                    self.handshakes += 1;
                    self.session.secured(NOW);
                }
                Action::Ready => self.ready = true,
                Action::Finished(verdicts) => self.finished.push(verdicts),
                Action::Failed(failure) => self.failed.push(failure),
                Action::Closed => {}
            }
        }
        self.session.flushed(NOW);
        String::from_utf8(out).unwrap()
    }

    fn codes(&self) -> Vec<String> {
        let verdict = |v: &Verdict| match v {
            Verdict::Accepted(reply) => format!("+{}", reply.code),
            Verdict::Refused(reply) => format!("-{}", reply.code),
            Verdict::Broken(_) => "broken".into(),
        };
        self.finished.last().unwrap().iter().map(verdict).collect()
    }
}

#[test]
fn a_priority_goes_with_mail_or_in_the_text() {
    let of_priority = |number| Transaction {
        priority: Priority::new(number),
        ..transaction(&["a@example.org"], "hi\r\n")
    };
    let mut scene = Scene::greeted(&["MT-PRIORITY MIXER", "SIZE"]);
    let mail = scene.begin(of_priority(-3));
    assert_eq!(
        mail,
        "MAIL FROM:<bounce@example.com> SIZE=10 MT-PRIORITY=-3\r\n"
    );
    scene.hear("250 ok\r\n");
    scene.hear("250 ok\r\n");
    assert_eq!(scene.hear("354 go\r\n"), "X: 1\r\nhi\r\n.\r\n");
    scene.hear("250 queued\r\n");
    // RFC 6758 §3.2: also of one of which nothing was said.
    let mail = scene.begin(transaction(&["a@example.org"], "hi\r\n"));
    assert_eq!(
        mail,
        "MAIL FROM:<bounce@example.com> SIZE=10 MT-PRIORITY=0\r\n"
    );
    for (offers, number, octets, text) in [
        (&["SIZE"][..], -3, 27, "X: 1\r\nhi\r\n.\r\n"),
        (&["SIZE", "CHUNKING"], -3, 27, "X: 1\r\nhi\r\n"),
        (&["SIZE"], 0, 26, "X: 1\r\nhi\r\n.\r\n"),
    ] {
        let mut scene = Scene::greeted(offers);
        let said = scene.begin(of_priority(number));
        let mail = format!("MAIL FROM:<bounce@example.com> SIZE={octets}\r\n");
        assert_eq!(said, mail);
        scene.hear("250 ok\r\n");
        let mut sent = scene.hear("250 ok\r\n");
        if sent == "DATA\r\n" {
            sent = scene.hear("354 go\r\n");
        }
        let sent = sent.replace("BDAT 27 LAST\r\n", "");
        assert_eq!(sent, format!("MT-Priority: {number}\r\n{text}"));
    }
    let mut scene = Scene::greeted(&[]);
    scene.begin(transaction(&["a@example.org"], "hi\r\n"));
    scene.hear("250 ok\r\n");
    scene.hear("250 ok\r\n");
    assert_eq!(scene.hear("354 go\r\n"), "X: 1\r\nhi\r\n.\r\n");
}

#[test]
fn without_pipelining_commands_wait_for_their_answers() {
    let mut scene = Scene::greeted(&[]);
    assert!(scene.ready);
    let mail = scene.begin(transaction(&["a@example.org", "b@example.org"], ".hi\r\n"));
    assert_eq!(mail, "MAIL FROM:<bounce@example.com>\r\n");
    assert_eq!(scene.hear("250 ok\r\n"), "RCPT TO:<a@example.org>\r\n");
    assert_eq!(scene.hear("250 ok\r\n"), "RCPT TO:<b@example.org>\r\n");
    assert_eq!(scene.hear("550 5.1.1 who\r\n"), "DATA\r\n");
    assert_eq!(scene.hear("354 go\r\n"), "X: 1\r\n..hi\r\n.\r\n");
    assert_eq!(scene.hear("250 queued\r\n"), "");
    assert_eq!(scene.codes(), ["+250", "-550"]);
    // The connection serves the next message without RSET.
    let mail = scene.begin(transaction(&["c@example.org"], "x\r\n"));
    assert_eq!(mail, "MAIL FROM:<bounce@example.com>\r\n");
}

#[test]
fn with_pipelining_they_go_out_together() {
    let mut scene = Scene::greeted(&["PIPELINING", "SIZE 1000", "8BITMIME"]);
    let sent = scene.begin(transaction(
        &["a@example.org", "b@example.org"],
        "h\u{e9}\r\n",
    ));
    assert_eq!(
        sent,
        "MAIL FROM:<bounce@example.com> SIZE=11 BODY=8BITMIME\r\n\
         RCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    );
    assert_eq!(scene.hear("250 ok\r\n450 4.2.1 later\r\n250 ok\r\n"), "");
    assert!(scene.hear("354 go\r\n").ends_with("\r\n.\r\n"));
    scene.hear("250 ok\r\n");
    assert_eq!(scene.codes(), ["-450", "+250"]);
}

#[test]
fn a_message_goes_out_with_its_commands_where_chunks_are_taken() {
    let mut scene = Scene::greeted(&["PIPELINING", "CHUNKING"]);
    let sent = scene.begin(transaction(&["a@example.org", "b@example.org"], ".x\r\n"));
    assert_eq!(
        sent,
        "MAIL FROM:<bounce@example.com>\r\nRCPT TO:<a@example.org>\r\n\
         RCPT TO:<b@example.org>\r\nBDAT 10 LAST\r\nX: 1\r\n.x\r\n"
    );
    scene.hear("250 ok\r\n550 5.1.1 who\r\n250 ok\r\n250 taken\r\n");
    assert_eq!(scene.codes(), ["-550", "+250"]);
    let next = scene.begin(transaction(&["c@example.org"], "x\r\n"));
    assert!(next.starts_with("MAIL "), "{next}");
}

#[test]
fn without_pipelining_the_chunk_waits_for_its_recipients() {
    let mut scene = Scene::greeted(&["CHUNKING"]);
    scene.begin(transaction(&["a@example.org"], "x\r\n"));
    assert_eq!(scene.hear("250 ok\r\n"), "RCPT TO:<a@example.org>\r\n");
    assert_eq!(scene.hear("250 ok\r\n"), "BDAT 9 LAST\r\nX: 1\r\nx\r\n");
    scene.hear("250 taken\r\n");
    assert_eq!(scene.codes(), ["+250"]);
    scene.begin(transaction(&["b@example.org"], "x\r\n"));
    scene.hear("250 ok\r\n");
    assert_eq!(scene.hear("550 who\r\n"), "", "no chunk for nobody");
    assert_eq!(scene.codes(), ["-550"]);
}

#[test]
fn a_large_chunk_waits_for_its_recipients() {
    let mut scene = Scene::greeted(&["PIPELINING", "CHUNKING"]);
    let sent = scene.begin(transaction(&["a@example.org"], &"x\r\n".repeat(100_000)));
    assert!(sent.ends_with("RCPT TO:<a@example.org>\r\n"), "{sent}");
    assert_eq!(scene.hear("250 ok\r\n"), "");
    let sent = scene.hear("250 ok\r\n");
    assert!(
        sent.starts_with("BDAT 300006 LAST\r\nX: 1\r\nx\r\n"),
        "{}",
        sent.len()
    );
    scene.hear("250 taken\r\n");
    assert_eq!(scene.codes(), ["+250"]);
}

#[test]
fn a_refused_chunk_is_followed_by_rset() {
    for (heard, codes) in [
        ("250 ok\r\n550 no\r\n503 nobody\r\n", "-550"),
        ("250 ok\r\n250 ok\r\n554 no\r\n", "-554"),
        ("550 no\r\n503 x\r\n503 x\r\n", "-550"),
    ] {
        let mut scene = Scene::greeted(&["PIPELINING", "CHUNKING"]);
        scene.begin(transaction(&["a@example.org"], "x\r\n"));
        scene.hear(heard);
        assert_eq!(scene.codes(), [codes], "{heard}");
        let next = scene.begin(transaction(&["b@example.org"], "x\r\n"));
        assert!(next.starts_with("RSET\r\nMAIL "), "{next}");
    }
}

#[test]
fn a_chunk_accepted_before_it_was_sent_is_accepted_by_nobody() {
    let mut scene = Scene::greeted(&["PIPELINING", "CHUNKING"]);
    scene
        .session
        .begin(transaction(&["a@example.org"], "x\r\n"), NOW);
    scene
        .session
        .received(b"250 ok\r\n250 ok\r\n250 taken\r\n", NOW);
    scene.written();
    assert_eq!(scene.codes(), ["broken"]);
}

#[test]
fn a_refused_sender_refuses_all_and_pipelined_answers_are_eaten() {
    let mut scene = Scene::greeted(&["PIPELINING"]);
    scene.begin(transaction(&["a@example.org", "b@example.org"], "x\r\n"));
    scene.hear("550 5.7.1 not you\r\n503 x\r\n503 x\r\n");
    assert!(scene.finished.is_empty());
    scene.hear("503 x\r\n");
    assert_eq!(scene.codes(), ["-550", "-550"]);
    assert!(scene.failed.is_empty());
}

#[test]
fn data_taken_without_a_recipient_is_ended_at_once() {
    let mut scene = Scene::greeted(&["PIPELINING"]);
    scene.begin(transaction(&["a@example.org"], "x\r\n"));
    assert_eq!(scene.hear("250 ok\r\n550 no\r\n354 go\r\n"), ".\r\n");
    scene.hear("554 no valid recipients\r\n");
    assert_eq!(scene.codes(), ["-550"]);
}

#[test]
fn no_recipient_left_means_no_data_and_rset_before_the_next() {
    let mut scene = Scene::greeted(&[]);
    scene.begin(transaction(&["a@example.org"], "x\r\n"));
    scene.hear("250 ok\r\n");
    assert_eq!(scene.hear("550 no\r\n"), "");
    assert_eq!(scene.codes(), ["-550"]);
    assert_eq!(
        scene.begin(transaction(&["b@example.org"], "x\r\n")),
        "RSET\r\n"
    );
    assert_eq!(
        scene.hear("250 ok\r\n"),
        "MAIL FROM:<bounce@example.com>\r\n"
    );
}

#[test]
fn what_the_server_cannot_take_is_refused_here() {
    for (keywords, recipient, body, code) in [
        (&["SIZE 5"][..], "a@example.org", "long\r\n", "552 5.3.4"),
        (&[], "a@example.org", "h\u{e9}\r\n", "554 5.6.3"),
        (&["8BITMIME"], "\u{e9}@example.org", "x\r\n", "553 5.6.7"),
    ] {
        let mut scene = Scene::greeted(keywords);
        assert_eq!(scene.begin(transaction(&[recipient], body)), "");
        let Verdict::Refused(reply) = &scene.finished[0][0] else {
            panic!("{:?}", scene.finished)
        };
        assert!(reply.to_string().starts_with(code), "{reply}");
        // The session is still good.
        assert!(
            scene
                .begin(transaction(&["a@example.org"], ""))
                .starts_with("MAIL")
                || code.starts_with("552")
        );
    }
    let mut scene = Scene::greeted(&["SMTPUTF8"]);
    let sent = scene.begin(transaction(&["\u{e9}@example.org"], "x\r\n"));
    assert_eq!(sent, "MAIL FROM:<bounce@example.com> SMTPUTF8\r\n");
}

#[test]
fn ehlo_falls_back_to_helo() {
    let mut scene = Scene::new(Security::Opportunistic);
    scene.hear("220-hello\r\n220 there\r\n");
    assert_eq!(scene.hear("502 what\r\n"), "HELO mail.example.net\r\n");
    scene.hear("250 hi\r\n");
    assert!(scene.ready);
}

#[test]
fn starttls_is_used_where_offered_and_what_was_learnt_before_is_forgotten() {
    let mut scene = Scene::new(Security::Opportunistic);
    scene.hear(GREETING);
    assert_eq!(
        scene.hear("250-mx\r\n250-SIZE 5\r\n250 STARTTLS\r\n"),
        "STARTTLS\r\n"
    );
    assert_eq!(scene.hear("220 go\r\n"), "EHLO mail.example.net\r\n");
    assert_eq!(scene.handshakes, 1);
    scene.hear("250 mx\r\n");
    assert!(
        scene
            .begin(transaction(&["a@example.org"], "long\r\n"))
            .starts_with("MAIL")
    );
    // In clear it is not even tried.
    let mut plain = Scene::new(Security::Plain);
    plain.hear(GREETING);
    assert_eq!(plain.hear("250-mx\r\n250 STARTTLS\r\n"), "");
    assert!(plain.ready);
}

#[test]
fn without_starttls_required_fails_and_opportunistic_goes_on() {
    for (after_hello, after_starttls) in [
        ("250 mx\r\n", ""),
        ("250-mx\r\n250 STARTTLS\r\n", "454 no\r\n"),
    ] {
        for (security, ready) in [(Security::Opportunistic, true), (Security::Required, false)] {
            let mut scene = Scene::new(security);
            scene.hear(GREETING);
            scene.hear(after_hello);
            scene.hear(after_starttls);
            assert_eq!(scene.ready, ready);
            assert_eq!(matches!(scene.failed[..], [Failure::Tls(_)]), !ready);
        }
    }
}

#[test]
fn data_injected_before_the_handshake_is_refused() {
    let mut scene = Scene::new(Security::Opportunistic);
    scene.hear(GREETING);
    scene.hear("250-mx\r\n250 STARTTLS\r\n");
    scene.hear("220 go\r\n250 injected\r\n");
    assert!(matches!(scene.failed[..], [Failure::Protocol { .. }]));
    assert_eq!(scene.handshakes, 0);
}

#[test]
fn going_away_breaks_what_has_no_answer_yet() {
    for (heard, codes) in [
        ("", ["broken", "broken"]),
        ("250 ok\r\n550 no\r\n", ["-550", "broken"]),
        (
            "250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n",
            ["-550", "broken"],
        ),
        (
            "250 ok\r\n550 no\r\n250 ok\r\n421 4.3.2 bye\r\n",
            ["-550", "broken"],
        ),
    ] {
        let mut scene = Scene::greeted(&["PIPELINING"]);
        scene.begin(transaction(&["a@example.org", "b@example.org"], "x\r\n"));
        scene.hear(heard);
        scene.session.lost("reset");
        scene.written();
        assert_eq!(scene.codes(), codes);
        assert_eq!((scene.finished.len(), scene.failed.len()), (1, 1));
    }
}

#[test]
fn refusing_the_session_is_no_verdict() {
    for text in [
        "554 no service\r\n",
        "421 busy\r\n",
        "220 a\r\n421 busy\r\n",
        "220 a\r\n450 later\r\n",
    ] {
        let mut scene = Scene::new(Security::Opportunistic);
        scene.hear(text);
        assert!(
            matches!(scene.failed[..], [Failure::Refused { .. }]),
            "{text}"
        );
        assert!(!scene.ready);
    }
}

#[test]
fn an_answer_out_of_place_decides_nothing() {
    for heard in [
        "354 go\r\n",
        "250 ok\r\n354 go\r\n",
        "250 ok\r\n250 ok\r\n250 taken already\r\n",
        "250 ok\r\n250 ok\r\n355 what\r\n",
    ] {
        let mut scene = Scene::greeted(&["PIPELINING"]);
        scene.begin(transaction(&["a@example.org"], "x\r\n"));
        scene.hear(heard);
        assert_eq!(scene.codes(), ["broken"], "{heard}");
        assert!(matches!(scene.failed[..], [Failure::Protocol { .. }]));
    }
}

#[test]
fn an_answer_before_the_message_is_sent_accepts_nothing() {
    for (early, code) in [("250 ok\r\n", "broken"), ("552 too big\r\n", "-552")] {
        let mut scene = Scene::greeted(&[]);
        scene.begin(transaction(&["a@example.org"], "x\r\n"));
        scene.hear("250 ok\r\n");
        scene.hear("250 ok\r\n");
        // The message and the early answer cross: nothing was flushed.
        scene.session.received(b"354 go\r\n", NOW);
        scene.session.received(early.as_bytes(), NOW);
        scene.written();
        assert_eq!(scene.codes(), [code]);
        assert_eq!(scene.failed.len(), 1);
    }
}

#[test]
fn every_wait_has_its_deadline() {
    let minutes = |m: u64| NOW + Duration::from_secs(60 * m);
    let mut scene = Scene::new(Security::Opportunistic);
    assert_eq!(scene.session.deadline(), minutes(5));
    scene.hear(GREETING);
    scene.hear("250 mx\r\n");
    scene.begin(transaction(&["a@example.org"], "x\r\n"));
    assert_eq!(scene.session.deadline(), minutes(5));
    scene.hear("250 ok\r\n");
    scene.hear("250 ok\r\n");
    assert_eq!(scene.session.deadline(), minutes(2));
    scene.session.received(b"354 go\r\n", NOW);
    assert_eq!(scene.session.deadline(), minutes(3));
    scene.session.progressed(minutes(1));
    assert_eq!(scene.session.deadline(), minutes(4));
    scene.session.flushed(minutes(2));
    assert_eq!(scene.session.deadline(), minutes(12));
    scene.session.timed_out();
    scene.written();
    assert_eq!(scene.failed, [Failure::TimedOut(Stage::End)]);
    assert_eq!(scene.codes(), ["broken"]);
}

#[test]
fn quit_waits_for_its_answer_but_not_long() {
    let mut scene = Scene::greeted(&[]);
    scene.session.quit(NOW);
    assert_eq!(scene.written(), "QUIT\r\n");
    assert_eq!(scene.session.deadline(), NOW + Duration::from_secs(5));
    scene.session.received(b"221 bye\r\n", NOW);
    assert_eq!(scene.session.poll(), Some(Action::Closed));
}

/// Answers a hostile or broken server may give, and noise.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => Just("250 ok\r\n".to_owned()),
        2 => Just("354 go\r\n".to_owned()),
        1 => Just("220 go\r\n".to_owned()),
        1 => Just("250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n".to_owned()),
        1 => Just("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n".to_owned()),
        1 => Just("550 5.1.1 no\r\n".to_owned()),
        1 => Just("450 later\r\n".to_owned()),
        1 => Just("421 bye\r\n".to_owned()),
        1 => "[2-5][0-9][0-9][ -][a-z]{0,5}\r?\n",
    ];
    prop_oneof![
        9 => line.prop_map(String::into_bytes),
        1 => any::<Vec<u8>>(),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_each_transaction_ends_once(
        heard in proptest::collection::vec(noise(), 0..40),
        recipients in 1_usize..5,
    ) {
        let mut scene = Scene::new(Security::Opportunistic);
        let mut begun = 0;
        for bytes in heard {
            if scene.ready && scene.finished.len() == begun && begun < 3 {
                let all = ["a@e.org", "b@e.org", "c@e.org", "d@e.org"];
                scene.begin(transaction(&all[..recipients], "x\r\n"));
                begun += 1;
            }
            scene.session.received(&bytes, NOW);
            scene.written();
        }
        scene.session.lost("gone");
        scene.session.timed_out();
        scene.written();
        prop_assert_eq!(scene.finished.len(), begun);
        prop_assert!(scene.finished.iter().all(|v| v.len() == recipients));
        prop_assert_eq!(scene.failed.len(), 1);
        prop_assert!(scene.session.poll().is_none());
    }
}
