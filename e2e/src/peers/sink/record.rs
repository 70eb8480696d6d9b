//! What the sink keeps of each transaction: in memory for who waits, in `transactions.jsonl` and
//! `messages/` for who comes later.
//!
//! Guarantees: a message is on disk before its transaction is in either list, and in the lists
//! before the client reads the reply.

use std::{
    fs::{self, File},
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    cluster::{self, error::OnPath as _},
    peers::{error::Error, judge::Case},
};

/// The list, in the sink's directory.
const LIST: &str = "transactions.jsonl";

/// A transaction from MAIL to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// When MAIL came.
    pub begun: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Who delivered.
    pub client_ip: IpAddr,
    /// The name the client gave.
    pub helo: String,
    /// The TLS version, `TLSv1_3` or the like, if it came over TLS.
    pub tls: Option<String>,
    /// The envelope sender; empty for the null reverse-path.
    pub mail_from: String,
    /// The parameters of MAIL, as given.
    pub parameters: String,
    /// Each recipient and what was answered.
    pub recipients: Vec<Answer>,
    /// The file with the message as it came, dots unstuffed, in CRLF lines; `None` when none came
    /// in whole.
    pub message: Option<PathBuf>,
    /// The reply to the message, without CRLF; `None` when none was given.
    pub reply: Option<String>,
}

/// What was answered to RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The recipient.
    pub recipient: String,
    /// The reply code.
    pub code: u16,
    /// The reply's text.
    pub text: String,
}

impl Transaction {
    /// Whether custody was taken.
    pub fn accepted(&self) -> bool {
        self.reply
            .as_deref()
            .is_some_and(|reply| reply.starts_with("250 "))
    }

    /// Whether it was for `recipient`, taken or not.
    pub fn is_for(&self, recipient: &str) -> bool {
        self.recipients
            .iter()
            .any(|answer| answer.recipient.eq_ignore_ascii_case(recipient))
    }

    /// The question whether its message is what it says it is, for [`crate::peers::Judge`];
    /// `None` when no message came.
    pub fn case(&self, nameserver: std::net::SocketAddr) -> Option<Case> {
        Some(Case {
            message: self.message.clone()?,
            client_ip: self.client_ip,
            helo: self.helo.clone(),
            mail_from: self.mail_from.clone(),
            nameserver,
        })
    }
}

/// The transactions of the sink that wrote or writes into `dir`.
///
/// # Errors
/// When the list cannot be read; a sink that has seen nothing has an empty one.
pub fn read(dir: &Path) -> Result<Vec<Transaction>, Error> {
    let path = dir.join(LIST);
    let text = fs::read_to_string(&path).on("read", &path)?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|source| Error::Output {
                program: "e2e-sink",
                line: line.to_owned(),
                source,
            })
        })
        .collect()
}

/// Keeps transactions.
#[derive(Debug)]
pub(super) struct Recorder {
    messages: PathBuf,
    list: Mutex<File>,
    next: AtomicU64,
    seen: watch::Sender<Vec<Transaction>>,
}

impl Recorder {
    /// One that writes into `dir`, anew.
    pub(super) fn open(dir: &Path) -> Result<(Self, watch::Receiver<Vec<Transaction>>), Error> {
        let dir = std::path::absolute(dir).on("resolve", dir)?;
        let messages = dir.join("messages");
        cluster::paths::remove_tree(&messages)?;
        fs::create_dir_all(&messages).on("create", &messages)?;
        let path = dir.join(LIST);
        let list = Mutex::new(File::create(&path).on("create", &path)?);
        let (seen, receiver) = watch::channel(Vec::new());
        let next = AtomicU64::new(1);
        let recorder = Self {
            messages,
            list,
            next,
            seen,
        };
        Ok((recorder, receiver))
    }

    /// Keeps a message; returns its id and its file.
    pub(super) fn keep(&self, message: &[u8]) -> Result<(String, PathBuf), cluster::Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.messages.join(format!("{id}.eml"));
        fs::write(&path, message).on("write", &path)?;
        Ok((id, path))
    }

    /// Keeps a transaction.
    pub(super) fn note(&self, transaction: Transaction) {
        if let Ok(mut line) = serde_json::to_vec(&transaction) {
            line.push(b'\n');
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            // A full disk shows in the list in memory being longer; nothing better can be done
            // towards a client that has its reply coming.
            let _ = list.write_all(&line);
        }
        self.seen.send_modify(|all| all.push(transaction));
    }
}
