//! An application that sends mail: Python's smtplib, driven by `e2e/judge/send.py`.
//!
//! It uses the machine's own `python3` and nothing else.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    error::Error,
    python::{Python, Script, json_lines, parse_lines},
};

/// How an application reaches its relay.
#[derive(Debug, Clone, Serialize)]
pub struct Client {
    /// A name or an address; the server's certificate must bear it.
    pub host: String,
    /// Where to connect to, if `host` is a name that this machine does not resolve.
    pub address: Option<String>,
    /// The port.
    pub port: u16,
    /// How the session is encrypted.
    pub tls: Tls,
    /// The PEM file of the authority to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// The user to log in as; `None` to send without.
    pub user: Option<String>,
    /// Their password.
    pub password: String,
}

/// How a session is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// By STARTTLS (RFC 3207), which must work.
    StartTls,
    /// From the first byte (RFC 8314 section 3.3).
    Implicit,
    /// Not at all.
    None,
}

/// A message to send.
#[derive(Debug, Clone, Serialize)]
pub struct Submission {
    /// The From field; its address is also the envelope sender.
    pub from: String,
    /// The To field; its address is also the one recipient.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub body: String,
    /// Other fields.
    pub headers: BTreeMap<String, String>,
}

/// What the server said to a message.
#[derive(Debug, Clone, Deserialize)]
pub struct Reply {
    /// The recipient.
    pub to: String,
    /// The Message-ID it was sent under.
    pub message_id: String,
    /// Whether the server took custody.
    pub accepted: bool,
    /// The command that decided: `MAIL`, `RCPT` or `DATA`.
    pub command: String,
    /// The reply code to it.
    pub code: u16,
    /// The reply's text.
    pub reply: String,
    /// What the server calls it, of "queued as ID".
    pub id: Option<String>,
}

impl Client {
    /// Sends the messages one after the other over one session; returns the reply to each.
    ///
    /// # Errors
    /// When no session comes about (address, certificate, password) or it breaks. A refused
    /// message is a reply, not an error.
    pub async fn send(&self, messages: &[Submission]) -> Result<Vec<Reply>, Error> {
        let output = self.run(messages, Break::Fails).await?;
        parse_lines(SEND, &output, Some(messages.len()))
    }

    /// Sends the messages until the session breaks; returns the replies until then.
    ///
    /// # Errors
    /// When no session comes about.
    pub async fn send_until_broken(&self, messages: &[Submission]) -> Result<Vec<Reply>, Error> {
        let output = self.run(messages, Break::Ends).await?;
        parse_lines(SEND, &output, None)
    }

    async fn run(&self, messages: &[Submission], on_break: Break) -> Result<Vec<u8>, Error> {
        let order = Order {
            client: self,
            on_break,
            messages,
        };
        let input = json_lines(SEND, &[order])?;
        Python::of_machine().run(SEND, &input).await
    }
}

/// What a session that breaks is.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Break {
    /// A failure.
    Fails,
    /// The end of the sending.
    Ends,
}

#[derive(Serialize)]
struct Order<'a> {
    #[serde(flatten)]
    client: &'a Client,
    #[serde(rename = "break")]
    on_break: Break,
    messages: &'a [Submission],
}

const SEND: Script = Script {
    name: "send.py",
    text: include_str!("../../judge/send.py"),
};
