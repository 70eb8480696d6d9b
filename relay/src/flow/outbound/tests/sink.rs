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
        }
    }
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
        let mut stream = BufStream::new(stream);
        let mut encrypted = false;
        let mut mail = String::new();
        let mut recipients = Vec::new();
        let mut transactions = 0;
        match self.script.greeting {
            Greeting::Says(text) => say(&mut stream, text).await?,
            Greeting::Nothing => std::future::pending::<()>().await,
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            let (verb, _) = line.split_once([' ', ':']).unwrap_or((line, ""));
            match verb {
                "EHLO" => self.hello(&mut stream, encrypted).await?,
                "STARTTLS" => {
                    say(&mut stream, "220 go").await?;
                    match &self.script.tls {
                        Some(Tls::Works(config)) => {
                            let acceptor = TlsAcceptor::from(config.clone());
                            let inner = stream.into_inner();
                            let secure: Connection = Box::new(acceptor.accept(inner).await?);
                            stream = BufStream::new(secure);
                            encrypted = true;
                        }
                        Some(Tls::Broken) | None => {
                            // The client speaks first.
                            stream.fill_buf().await?;
                            return say(&mut stream, "this is no TLS at all").await;
                        }
                    }
                }
                "MAIL" if transactions >= self.script.patience => {
                    return say(&mut stream, "421 4.7.0 enough").await;
                }
                "MAIL" => {
                    transactions += 1;
                    mail = line.to_owned();
                    recipients.clear();
                    say(&mut stream, "250 2.1.0 ok").await?;
                }
                "RCPT" => {
                    let answer = self.recipient(line);
                    if answer.starts_with('2') {
                        recipients.push(line.to_owned());
                    }
                    say(&mut stream, answer).await?;
                }
                "DATA" if recipients.is_empty() => say(&mut stream, "503 5.5.1 nobody").await?,
                "DATA" => {
                    say(&mut stream, "354 go").await?;
                    let data = data(&mut stream).await?;
                    let Some(answer) = (self.script.end)(self.ended.fetch_add(1, Ordering::SeqCst))
                    else {
                        return Ok(());
                    };
                    if answer.starts_with('2') {
                        self.received.lock().unwrap().push(Received {
                            mail: mail.clone(),
                            recipients: recipients.clone(),
                            data,
                            encrypted,
                        });
                    }
                    say(&mut stream, answer).await?;
                }
                "QUIT" => return say(&mut stream, "221 bye").await,
                "RSET" => say(&mut stream, "250 ok").await?,
                other => panic!("the relay said {other:?}"),
            }
        }
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
