//! The SASL exchanges of AUTH: PLAIN (RFC 4616) and LOGIN (the old, undocumented one that mail
//! clients still prefer).

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{auth::Attempt, refusal::Refusal};

/// An exchange that waits for the client's next line.
#[derive(Debug)]
pub(super) enum Exchange {
    /// PLAIN without an initial response.
    Plain,
    /// LOGIN, asked for the username.
    LoginUsername,
    /// LOGIN, asked for the password.
    LoginPassword { username: String },
}

/// What comes after a line.
#[derive(Debug)]
pub(super) enum Progress {
    /// 334 with this challenge, then another line.
    Ask(Exchange, &'static str),
    /// All is there.
    Done(Attempt),
}

/// `Username:` in base64.
const ASK_USERNAME: &str = "VXNlcm5hbWU6";
/// `Password:` in base64.
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// Begins an exchange by AUTH (RFC 4954 §4).
pub(super) fn begin(mechanism: &str, initial: Option<&str>) -> Result<Progress, Refusal> {
    match (mechanism, initial) {
        ("PLAIN", None) => Ok(Progress::Ask(Exchange::Plain, "")),
        ("PLAIN", Some(initial)) => plain(initial.as_bytes()),
        ("LOGIN", None) => Ok(Progress::Ask(Exchange::LoginUsername, ASK_USERNAME)),
        ("LOGIN", Some(initial)) => login_username(initial.as_bytes()),
        (other, _) => {
            let text = format!("AUTH mechanism {other:?} is not offered; use PLAIN or LOGIN");
            Err(Refusal::syntax(504, (5, 5, 4), text))
        }
    }
}

/// Takes the client's line.
pub(super) fn proceed(exchange: Exchange, line: &[u8]) -> Result<Progress, Refusal> {
    if line == b"*" {
        // RFC 4954 §4: the client gives up.
        return Err(Refusal::syntax(501, (5, 7, 0), "AUTH cancelled"));
    }
    match exchange {
        Exchange::Plain => plain(line),
        Exchange::LoginUsername => login_username(line),
        Exchange::LoginPassword { username } => Ok(Progress::Done(Attempt {
            username,
            password: decode(line)?,
        })),
    }
}

fn login_username(line: &[u8]) -> Result<Progress, Refusal> {
    let username = text(decode(line)?)?;
    Ok(Progress::Ask(
        Exchange::LoginPassword { username },
        ASK_PASSWORD,
    ))
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2).
fn plain(line: &[u8]) -> Result<Progress, Refusal> {
    let message = decode(line)?;
    let mut parts = message.splitn(3, |b| *b == 0);
    let (Some(acting), Some(username), Some(password)) = (parts.next(), parts.next(), parts.next())
    else {
        let text = "AUTH PLAIN response has no two NULs; encode \\0username\\0password";
        return Err(Refusal::syntax(501, (5, 5, 2), text));
    };
    if !acting.is_empty() && acting != username {
        let text = "AUTH PLAIN asks to act as another; leave the authorization identity empty";
        return Err(Refusal::new(
            crate::telemetry::RejectReason::Authentication,
            535,
            (5, 7, 8),
            text,
        ));
    }
    Ok(Progress::Done(Attempt {
        username: text(username.to_vec())?,
        password: password.to_vec(),
    }))
}

fn decode(line: &[u8]) -> Result<Vec<u8>, Refusal> {
    // RFC 4954 §4: a single `=` is an empty response.
    if line == b"=" {
        return Ok(Vec::new());
    }
    STANDARD.decode(line).map_err(|error| {
        Refusal::syntax(
            501,
            (5, 5, 2),
            format!("AUTH response is no base64: {error}"),
        )
    })
}

fn text(bytes: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(bytes)
        .map_err(|_| Refusal::syntax(501, (5, 5, 2), "AUTH username is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        STANDARD.encode(text)
    }

    fn done(progress: Result<Progress, Refusal>) -> (String, Vec<u8>) {
        match progress {
            Ok(Progress::Done(attempt)) => (attempt.username, attempt.password),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_with_and_without_initial_response() {
        let expected = ("ann".to_owned(), b"pass\0word".to_vec());
        let response = encoded("\0ann\0pass\0word");
        assert_eq!(done(begin("PLAIN", Some(&response))), expected);
        assert_eq!(
            done(proceed(Exchange::Plain, response.as_bytes())),
            expected
        );
        let acting = encoded("ann\0ann\0pass\0word");
        assert_eq!(done(begin("PLAIN", Some(&acting))), expected);
    }

    #[test]
    fn login_asks_twice() {
        let Ok(Progress::Ask(exchange, "VXNlcm5hbWU6")) = begin("LOGIN", None) else {
            panic!("asks for the username");
        };
        let Ok(Progress::Ask(exchange, "UGFzc3dvcmQ6")) =
            proceed(exchange, encoded("ann").as_bytes())
        else {
            panic!("asks for the password");
        };
        let attempt = done(proceed(exchange, encoded("secret").as_bytes()));
        assert_eq!(attempt, ("ann".to_owned(), b"secret".to_vec()));
    }

    #[test]
    fn what_is_no_exchange_is_refused() {
        for (mechanism, initial, code) in [
            ("CRAM-MD5", None, 504),
            ("PLAIN", Some("***"), 501),
            ("PLAIN", Some("YW5u"), 501),
            ("PLAIN", Some("Ym9iAGFubgBzZWNyZXQ="), 535),
        ] {
            let refusal = begin(mechanism, initial).expect_err(mechanism);
            assert_eq!(refusal.reply.code, code, "{}", refusal.reply);
        }
        let cancelled = proceed(Exchange::Plain, b"*").expect_err("cancelled");
        assert_eq!(cancelled.reply.code, 501);
    }
}
