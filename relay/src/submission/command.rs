//! One command line to one command (RFC 5321 §4.1.1, RFC 6409, RFC 4954, RFC 3207).
//!
//! Promises: an address leaves here as a [`Mailbox`] or not at all; a parameter that is not known
//! is refused by name; a line that begins as BDAT does is never anything else, since octets follow
//! that are no commands.

use postrider_crds::Mailbox;

use super::refusal::Refusal;
use crate::mail::{BodyKind, Priority, PriorityError, ReturnPath};

/// Longest command line with its CRLF (RFC 5321 §4.5.3.1.4).
const MAX_COMMAND: usize = 512;
/// What extensions add to it: SIZE 26 (RFC 1870 §3), BODY 17 (RFC 6152 §2), AUTH 500 (RFC 4954 §3),
/// MT-PRIORITY 15 (RFC 6710 §3).
const MAX_MAIL: usize = MAX_COMMAND + 26 + 17 + 500 + 15;
/// Longest line of an authentication exchange (RFC 4954 §4); no line may be longer.
pub(super) const MAX_LINE: usize = 12_288;
/// Longest name a client may give itself: a domain has 255 octets (RFC 5321 §4.5.3.1.2).
const MAX_CLIENT_NAME: usize = 255;

/// A command that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ehlo(String),
    Helo(String),
    StartTls,
    Auth {
        mechanism: String,
        initial: Option<String>,
    },
    Mail(MailCommand),
    Rcpt(Mailbox),
    Data,
    /// `None` when where the chunk ends is not understood.
    Bdat(Option<Chunk>),
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
}

/// BDAT with its parameters (RFC 3030 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Octets that follow the command.
    pub(super) octets: u64,
    pub(super) place: Place,
}

/// Where a chunk stands in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// More come.
    Inner,
    Last,
}

/// MAIL with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailCommand {
    pub(super) from: ReturnPath,
    /// Octets announced (RFC 1870 §6.1).
    pub(super) size: Option<u64>,
    pub(super) body: BodyKind,
    /// How urgent the client says the message is (RFC 6710 §3).
    pub(super) priority: Option<Priority>,
}

/// Reads a line without its CRLF.
pub(super) fn parse(line: &[u8]) -> Result<Command, Refusal> {
    let words = words(line);
    match words.and_then(|(verb, argument)| command(&verb, argument)) {
        Err(_) if is_bdat(line) => Ok(Command::Bdat(None)),
        result => result,
    }
}

/// Whether `line`, the end of which may be missing, is BDAT, be it well-formed or not.
pub(super) fn is_bdat(line: &[u8]) -> bool {
    let (verb, rest) = line.split_at(line.len().min(4));
    let ends = rest.first().is_none_or(|b| !b.is_ascii_alphanumeric());
    verb.eq_ignore_ascii_case(b"BDAT") && ends
}

/// The verb in upper case, and its argument.
fn words(line: &[u8]) -> Result<(String, &str), Refusal> {
    // RFC 5321 §2.3.8: CR and LF appear as a pair, at the end.
    if let Some(stray) = line.iter().find(|b| matches!(b, b'\r' | b'\n' | 0)) {
        let name = match stray {
            b'\r' => "CR",
            b'\n' => "LF",
            _ => "NUL",
        };
        let text = format!("command line holds a bare {name}; end every line in CRLF only");
        return Err(Refusal::syntax(500, (5, 5, 2), text));
    }
    let Ok(text) = std::str::from_utf8(line) else {
        let text = "command line is no ASCII; SMTPUTF8 is not offered";
        return Err(Refusal::syntax(500, (5, 5, 2), text));
    };
    let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
    let verb = verb.to_ascii_uppercase();
    let limit = match verb.as_str() {
        "AUTH" => MAX_LINE,
        "MAIL" => MAX_MAIL,
        _ => MAX_COMMAND,
    };
    if line.len() + 2 > limit {
        return Err(too_long(limit));
    }
    Ok((verb, argument.trim()))
}

/// 500 for a line beyond `limit` octets (RFC 5321 §4.5.3.1.9).
pub(super) fn too_long(limit: usize) -> Refusal {
    let text = format!("line is longer than {limit} octets; shorten it");
    Refusal::syntax(500, (5, 5, 2), text)
}

fn command(verb: &str, argument: &str) -> Result<Command, Refusal> {
    match verb {
        "EHLO" => client_name(verb, argument).map(Command::Ehlo),
        "HELO" => client_name(verb, argument).map(Command::Helo),
        "MAIL" => mail(argument).map(Command::Mail),
        "RCPT" => recipient(argument).map(Command::Rcpt),
        "AUTH" => auth(argument),
        "STARTTLS" => bare(verb, argument, Command::StartTls),
        "DATA" => bare(verb, argument, Command::Data),
        "BDAT" => Ok(Command::Bdat(chunk(argument))),
        "RSET" => bare(verb, argument, Command::Rset),
        "QUIT" => bare(verb, argument, Command::Quit),
        // RFC 5321 §4.1.1.9: a parameter of NOOP is ignored.
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        "EXPN" | "ETRN" | "TURN" => {
            let text = format!("{verb} is not offered; see the reply to EHLO");
            Err(Refusal::syntax(502, (5, 5, 1), text))
        }
        _ => {
            let text = format!("command {verb:?} is unknown; HELP lists those known");
            Err(Refusal::syntax(500, (5, 5, 1), text))
        }
    }
}

fn bare(verb: &str, argument: &str, command: Command) -> Result<Command, Refusal> {
    if argument.is_empty() {
        return Ok(command);
    }
    let text = format!("{verb} takes no parameter, not {argument:?}; leave it out");
    Err(Refusal::syntax(501, (5, 5, 4), text))
}

/// The client's name goes into the Received header, so only what cannot change its meaning passes
/// (RFC 5321 §4.1.1.1 domain or address literal).
fn client_name(verb: &str, argument: &str) -> Result<String, Refusal> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if !argument.is_empty() && argument.len() <= MAX_CLIENT_NAME && argument.bytes().all(allowed) {
        return Ok(argument.to_owned());
    }
    let text = format!("{verb} {argument:?} names no host; give a host name or [address]");
    Err(Refusal::syntax(501, (5, 5, 4), text))
}

fn auth(argument: &str) -> Result<Command, Refusal> {
    let (mechanism, initial) = match argument.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial.trim().to_owned())),
        None => (argument, None),
    };
    if mechanism.is_empty() {
        let text = "AUTH names no mechanism; give PLAIN or LOGIN";
        return Err(Refusal::syntax(501, (5, 5, 4), text));
    }
    Ok(Command::Auth {
        mechanism: mechanism.to_ascii_uppercase(),
        initial,
    })
}

fn chunk(argument: &str) -> Option<Chunk> {
    let mut words = argument.split_ascii_whitespace();
    let octets = size(words.next()?).ok()?;
    let place = match words.next() {
        None => Place::Inner,
        Some(word) if word.eq_ignore_ascii_case("LAST") => Place::Last,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Chunk { octets, place })
}

fn mail(argument: &str) -> Result<MailCommand, Refusal> {
    let (path, parameters) = path("MAIL FROM", argument)?;
    let from = match path {
        "" => ReturnPath::Null,
        text => ReturnPath::Mailbox(mailbox("MAIL FROM", text)?),
    };
    let mut command = MailCommand {
        from,
        size: None,
        body: BodyKind::SevenBit,
        priority: None,
    };
    for parameter in parameters.split_ascii_whitespace() {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name.to_ascii_uppercase().as_str(), value) {
            ("SIZE", value) => command.size = Some(size(value)?),
            ("BODY", value) if value.eq_ignore_ascii_case("7BIT") => {}
            ("BODY", value) if value.eq_ignore_ascii_case("8BITMIME") => {
                command.body = BodyKind::EightBitMime;
            }
            ("MT-PRIORITY", value) => {
                command.priority = Some(priority(command.priority, value)?);
            }
            // RFC 4954 §5: a server may treat any value as `<>`, and this one passes none on.
            ("AUTH", value) if !value.is_empty() => {}
            _ => return Err(unknown_parameter("MAIL FROM", parameter)),
        }
    }
    Ok(command)
}

/// RFC 6710 §4.1: what is no priority, and a second one, are refused.
fn priority(known: Option<Priority>, value: &str) -> Result<Priority, Refusal> {
    let refusal = |text| Refusal::syntax(501, (5, 5, 2), text);
    if known.is_some() {
        return Err(refusal(
            "MAIL FROM holds two MT-PRIORITY; keep one".to_owned(),
        ));
    }
    let told = |error: PriorityError| refusal(format!("MAIL FROM MT-PRIORITY={error}"));
    value.parse().map_err(told)
}

fn recipient(argument: &str) -> Result<Mailbox, Refusal> {
    let (path, parameters) = path("RCPT TO", argument)?;
    if let Some(parameter) = parameters.split_ascii_whitespace().next() {
        return Err(unknown_parameter("RCPT TO", parameter));
    }
    mailbox("RCPT TO", path)
}

fn unknown_parameter(field: &str, parameter: &str) -> Refusal {
    let text = format!("{field} parameter {parameter:?} is not offered; see the reply to EHLO");
    Refusal::syntax(555, (5, 5, 4), text)
}

fn size(value: &str) -> Result<u64, Refusal> {
    // RFC 1870 §6: 1 to 20 digits.
    if !value.is_empty() && value.len() <= 20 && value.bytes().all(|b| b.is_ascii_digit()) {
        // 20 digits may exceed a u64; such a size is over any limit.
        return Ok(value.parse().unwrap_or(u64::MAX));
    }
    let text = format!("MAIL FROM SIZE={value:?} is no number of octets; give 1 to 20 digits");
    Err(Refusal::syntax(501, (5, 5, 4), text))
}

fn mailbox(field: &str, text: &str) -> Result<Mailbox, Refusal> {
    if !text.is_ascii() {
        let text = format!("{field} address {text:?} is no ASCII; SMTPUTF8 is not offered");
        return Err(Refusal::syntax(553, (5, 6, 7), text));
    }
    let enhanced = match field {
        "RCPT TO" => (5, 1, 3),
        _ => (5, 1, 7),
    };
    text.parse()
        .map_err(|error| Refusal::syntax(553, enhanced, format!("{field} {error}")))
}

/// Splits `FROM:<path> parameters` or `TO:<path> parameters`; a source route is dropped
/// (RFC 5321 §4.1.1.3).
fn path<'a>(field: &str, argument: &'a str) -> Result<(&'a str, &'a str), Refusal> {
    let (_, keyword) = field.split_once(' ').unwrap_or(("", field));
    let error = || {
        let text = format!("{field} {argument:?} is not understood; write {field}:<address>");
        Refusal::syntax(501, (5, 5, 2), text)
    };
    let head = argument.get(..keyword.len()).ok_or_else(error)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(error());
    }
    let rest = argument.get(keyword.len()..).unwrap_or_default();
    let rest = rest.strip_prefix(':').ok_or_else(error)?.trim_start();
    let rest = rest.strip_prefix('<').ok_or_else(error)?;
    let end = closing_bracket(rest).ok_or_else(error)?;
    let (path, rest) = rest.split_at(end);
    let parameters = rest.strip_prefix('>').unwrap_or_default();
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return Err(error());
    }
    let path = match path.strip_prefix('@').and_then(|p| p.split_once(':')) {
        Some((_, mailbox)) => mailbox,
        None => path,
    };
    Ok((path, parameters))
}

/// Where the path ends: at the first `>` outside a quoted string (RFC 5321 §4.1.2).
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mail_of(line: &str) -> MailCommand {
        match parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn mail_takes_its_parameters_and_null() {
        let mail = mail_of("mail from:<A@Example.com> SIZE=100 BODY=8BITMIME");
        assert_eq!(mail.from.mailbox().unwrap().to_string(), "A@example.com");
        assert_eq!((mail.size, mail.body), (Some(100), BodyKind::EightBitMime));
        assert_eq!(mail_of("MAIL FROM:<>").from, ReturnPath::Null);
        assert_eq!(mail_of("MAIL FROM: <> AUTH=<>").from, ReturnPath::Null);
        let routed = mail_of("MAIL FROM:<@a.example,@b.example:c@example.com>");
        assert_eq!(routed.from.mailbox().unwrap().to_string(), "c@example.com");
        let quoted = mail_of("MAIL FROM:<\"a>b\"@example.com>");
        assert_eq!(quoted.from.mailbox().unwrap().local(), "\"a>b\"");
        let urgent = mail_of("MAIL FROM:<> mt-priority=-3 SIZE=1");
        assert_eq!(urgent.priority, Priority::new(-3));
        assert_eq!(mail_of("MAIL FROM:<>").priority, None);
        let huge = mail_of("MAIL FROM:<> SIZE=99999999999999999999");
        assert_eq!(huge.size, Some(u64::MAX));
    }

    #[test]
    fn what_is_no_command_is_refused_by_name() {
        for (line, code, part) in [
            ("NONSENSE", 500, "NONSENSE"),
            ("EHLO", 501, "EHLO"),
            ("EHLO a b", 501, "a b"),
            ("EHLO a\u{7}", 501, "host"),
            ("MAIL", 501, "MAIL FROM:<address>"),
            ("MAIL FROM:a@example.com", 501, "a@example.com"),
            ("MAIL FROM:<a@example.com", 501, "a@example.com"),
            ("MAIL FROM:<a@example.com>x", 501, "a@example.com"),
            ("MAIL FROM:<a>", 553, "has no @"),
            ("MAIL FROM:<> SIZE=x", 501, "SIZE"),
            ("MAIL FROM:<> RET=FULL", 555, "RET=FULL"),
            ("MAIL FROM:<> MT-PRIORITY", 501, "-9 to 9"),
            ("MAIL FROM:<> MT-PRIORITY=", 501, "-9 to 9"),
            ("MAIL FROM:<> MT-PRIORITY=10", 501, "\"10\""),
            ("MAIL FROM:<> MT-PRIORITY=-10", 501, "\"-10\""),
            ("MAIL FROM:<> MT-PRIORITY=+1", 501, "\"+1\""),
            ("MAIL FROM:<> MT-PRIORITY=-0", 501, "\"-0\""),
            ("MAIL FROM:<> MT-PRIORITY=high", 501, "\"high\""),
            (
                "MAIL FROM:<> MT-PRIORITY=1 mt-priority=1",
                501,
                "two MT-PRIORITY",
            ),
            ("MAIL FROM:<> BODY=BINARYMIME", 555, "BINARYMIME"),
            ("MAIL FROM:<> SMTPUTF8", 555, "SMTPUTF8"),
            ("RCPT TO:<>", 553, "RCPT TO"),
            ("RCPT TO:<a@example.com> NOTIFY=NEVER", 555, "NOTIFY"),
            ("RCPT TO:<a@[192.0.2.1]>", 553, "192.0.2.1"),
            ("DATA now", 501, "now"),
            ("EXPN list", 502, "EXPN"),
            ("NOOP\rQUIT", 500, "CR"),
            ("NOOP\nQUIT", 500, "LF"),
            ("AUTH", 501, "PLAIN"),
        ] {
            let refusal = parse(line.as_bytes()).expect_err(line);
            assert_eq!(refusal.reply.code, code, "{line}: {}", refusal.reply);
            assert!(
                refusal.reply.text.contains(part),
                "{line}: {}",
                refusal.reply
            );
        }
    }

    #[test]
    fn a_chunk_says_where_it_ends_or_is_not_understood() {
        let chunk = |octets, place| Some(Chunk { octets, place });
        for (line, expected) in [
            ("BDAT 0", chunk(0, Place::Inner)),
            ("bdat 10 last", chunk(10, Place::Last)),
            ("BDAT 99999999999999999999", chunk(u64::MAX, Place::Inner)),
            ("BDAT", None),
            ("BDAT x", None),
            ("BDAT -1", None),
            ("BDAT 1 LAST LAST", None),
            ("BDAT 1 FIRST", None),
            ("BDAT LAST", None),
            // What would be refused of any other command.
            ("BDAT\t5", None),
            ("BDAT 5\n", None),
            ("bdat\r5", None),
            ("BDAT \0", None),
            ("BDAT: 5", None),
            (&format!("BDAT 6 {}LAST", " ".repeat(MAX_COMMAND)), None),
        ] {
            assert_eq!(
                parse(line.as_bytes()),
                Ok(Command::Bdat(expected)),
                "{line}"
            );
        }
    }

    #[test]
    fn no_other_verb_is_taken_for_that_of_a_chunk() {
        for line in ["BDATA 5\t", "BDA\t", "BDAT5", " BDAT 5"] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(parse(b"BDAT 5\xff"), Ok(Command::Bdat(None)));
    }

    #[test]
    fn each_verb_has_its_length() {
        let long = format!("NOOP {}", "x".repeat(600));
        assert_eq!(parse(long.as_bytes()).expect_err("long").reply.code, 500);
        let auth = format!("AUTH PLAIN {}", "x".repeat(12_000));
        assert!(parse(auth.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(line: Vec<u8>) {
            let _ = parse(&line);
        }

        #[test]
        fn what_begins_as_a_chunk_is_one(verb in "[bB][dD][aA][tT][^a-zA-Z0-9\u{80}-\u{10ffff}]", rest: Vec<u8>) {
            let line = [verb.as_bytes(), &rest].concat();
            prop_assert!(matches!(parse(&line), Ok(Command::Bdat(_))));
        }

        #[test]
        fn never_panics_near_the_grammar(line in "(MAIL FROM|RCPT TO):? ?<?[\"\\\\@>:a. =]{0,12}") {
            let _ = parse(line.as_bytes());
        }
    }
}
