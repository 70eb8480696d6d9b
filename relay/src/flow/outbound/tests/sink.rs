//! A receiving server that does as it is told.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

use crate::ports::Connection;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) mail: String,
    pub(super) recipients: Vec<String>,
    pub(super) data: String,
    pub(super) encrypted: bool,
}

/// What the server says.
pub(super) struct Script {
    /// EHLO keywords; STARTTLS is added when there is a certificate.
    pub(super) keywords: Vec<&'static str>,
    /// The answer to RCPT, given the address and how often it was asked before.
    pub(super) recipient: fn(&str, usize) -> &'static str,
    /// The answer to the message, given how many came before; `None` drops the connection.
    pub(super) end: fn(usize) -> Option<&'static str>,
    /// The certificate.
    pub(super) tls: Option<Tls>,
    /// Transactions of a connection before it is closed.
    pub(super) patience: usize,
    /// What it does first.
    pub(super) greeting: Greeting,
    /// What the answer to the message waits for.
    pub(super) gate: Option<Arc<Gate>>,
}

/// A point the server comes to and waits at.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) reached: Notify,
    pub(super) opened: Notify,
}

#[derive(Clone)]
pub(super) enum Tls {
    Works(Arc<rustls::ServerConfig>),
    /// Says 220, then something that is no TLS.
    Broken,
}

#[derive(Clone, Copy)]
pub(super) enum Greeting {
    Says(&'static str),
    Nothing,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            keywords: vec!["PIPELINING", "8BITMIME", "SIZE 1000000"],
            recipient: |_, _| "250 2.1.5 ok",
            end: |_| Some("250 2.0.0 taken"),
            tls: None,
            patience: 100,
            greeting: Greeting::Says("220 sink ESMTP"),
            gate: None,
        }
    }
}

/// One connection to the server.
struct Talk {
    stream: BufStream<Connection>,
    encrypted: bool,
    mail: String,
    recipients: Vec<String>,
    transactions: usize,
}

/// A running server.
#[derive(Clone)]
pub(super) struct Sink {
    script: Arc<Script>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    received: Arc<Mutex<Vec<Received>>>,
    ended: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Sink {
    /// Listens at `address`; port 0 takes any. Gives the port.
    pub(super) async fn listen(address: &str, port: u16, script: Script) -> (Self, u16) {
        let ip: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind(SocketAddr::new(ip, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sink = Self {
            script: Arc::new(script),
            asked: Arc::default(),
            received: Arc::default(),
            ended: Arc::default(),
            connections: Arc::default(),
        };
        let server = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                server.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(server.clone().serve(Box::new(stream)));
            }
        });
        (sink, port)
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn serve(self, stream: Connection) {
        // A client that leaves is no failure of the sink.
        let _ = self.converse(stream).await;
    }

    async fn converse(&self, stream: Connection) -> std::io::Result<()> {
        let mut talk = Talk {
            stream: BufStream::new(stream),
            encrypted: false,
            mail: String::new(),
            recipients: Vec::new(),
            transactions: 0,
        };
        match self.script.greeting {
            Greeting::Says(text) => say(&mut talk.stream, text).await?,
            Greeting::Nothing => std::future::pending::<()>().await,
        }
        loop {
            let mut line = String::new();
            if talk.stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            talk = match self.answer(talk, line.trim_end()).await? {
                Some(talk) => talk,
                None => return Ok(()),
            };
        }
    }

    /// Answers one command; `None` ends the connection.
    async fn answer(&self, mut talk: Talk, line: &str) -> std::io::Result<Option<Talk>> {
        let (verb, _) = line.split_once([' ', ':']).unwrap_or((line, ""));
        match verb {
            "EHLO" => self.hello(&mut talk.stream, talk.encrypted).await?,
            "STARTTLS" => return self.secure(talk).await,
            "MAIL" if talk.transactions >= self.script.patience => {
                say(&mut talk.stream, "421 4.7.0 enough").await?;
                return Ok(None);
            }
            "MAIL" => {
                talk.transactions += 1;
                talk.mail = line.to_owned();
                talk.recipients.clear();
                say(&mut talk.stream, "250 2.1.0 ok").await?;
            }
            "RCPT" => {
                let answer = self.recipient(line);
                if answer.starts_with('2') {
                    talk.recipients.push(line.to_owned());
                }
                say(&mut talk.stream, answer).await?;
            }
            "DATA" if talk.recipients.is_empty() => {
                say(&mut talk.stream, "503 5.5.1 nobody").await?;
            }
            "DATA" => return self.take(talk).await,
            "QUIT" => {
                say(&mut talk.stream, "221 bye").await?;
                return Ok(None);
            }
            "RSET" => say(&mut talk.stream, "250 ok").await?,
            other => panic!("the relay said {other:?}"),
        }
        Ok(Some(talk))
    }

    async fn secure(&self, mut talk: Talk) -> std::io::Result<Option<Talk>> {
        say(&mut talk.stream, "220 go").await?;
        match &self.script.tls {
            Some(Tls::Works(config)) => {
                let acceptor = TlsAcceptor::from(config.clone());
                let secure: Connection = Box::new(acceptor.accept(talk.stream.into_inner()).await?);
                Ok(Some(Talk {
                    stream: BufStream::new(secure),
                    encrypted: true,
                    ..talk
                }))
            }
            Some(Tls::Broken) | None => {
                // The client speaks first.
                talk.stream.fill_buf().await?;
                say(&mut talk.stream, "this is no TLS at all").await?;
                Ok(None)
            }
        }
    }

    async fn take(&self, mut talk: Talk) -> std::io::Result<Option<Talk>> {
        say(&mut talk.stream, "354 go").await?;
        let data = data(&mut talk.stream).await?;
        if let Some(gate) = &self.script.gate {
            gate.reached.notify_one();
            gate.opened.notified().await;
        }
        let before = self.ended.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = (self.script.end)(before) else {
            return Ok(None);
        };
        if answer.starts_with('2') {
            self.received.lock().unwrap().push(Received {
                mail: talk.mail.clone(),
                recipients: talk.recipients.clone(),
                data,
                encrypted: talk.encrypted,
            });
        }
        say(&mut talk.stream, answer).await?;
        Ok(Some(talk))
    }

    async fn hello(
        &self,
        stream: &mut BufStream<Connection>,
        encrypted: bool,
    ) -> std::io::Result<()> {
        let mut lines = vec!["sink"];
        lines.extend(&self.script.keywords);
        if self.script.tls.is_some() && !encrypted {
            lines.push("STARTTLS");
        }
        for line in &lines {
            stream
                .write_all(format!("250-{line}\r\n").as_bytes())
                .await?;
        }
        say(stream, "250 HELP").await
    }

    fn recipient(&self, line: &str) -> &'static str {
        let mut asked = self.asked.lock().unwrap();
        let before = asked.entry(line.to_owned()).or_default();
        let answer = (self.script.recipient)(line, *before);
        *before += 1;
        answer
    }
}

async fn say(stream: &mut BufStream<Connection>, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.flush().await
}

async fn data(stream: &mut BufStream<Connection>) -> std::io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
