//! One connection of the sink: bytes to command lines and messages and back.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{
    dialogue::{Dialogue, Draft, MAX_MESSAGE, Step, line_of},
    record::{Recorder, Transaction},
    rules::Memory,
};
use crate::peers::clock::now;

/// The longest line, CRLF included (RFC 5321 section 4.5.3.1.6).
const MAX_LINE: u64 = 1000;
/// How long a client may be silent (RFC 5321 section 4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(300);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The name it greets with.
    pub(super) hostname: String,
    /// How it speaks TLS.
    pub(super) tls: Arc<rustls::ServerConfig>,
    /// What it does.
    pub(super) memory: Memory,
    /// What it keeps.
    pub(super) recorder: Recorder,
}

/// Serves one client to the end of its connection.
pub(super) async fn serve(
    receiver: &Receiver,
    stream: TcpStream,
    client: IpAddr,
) -> io::Result<()> {
    let mut wire = Wire::new(Box::new(stream));
    let greeting = line_of(220, &format!("{} ESMTP sink", receiver.hostname));
    wire.write(&greeting).await?;
    let mut tls = None;
    loop {
        let dialogue = Dialogue::new(&receiver.memory, &receiver.hostname, client, tls.take());
        let mut session = Session {
            receiver,
            client,
            wire,
            dialogue,
        };
        let end = session.converse().await;
        // Whatever ended the connection, a transaction under way ended with it.
        let draft = session.dialogue.take_draft();
        session.note(draft, None, None);
        wire = session.wire;
        match end? {
            End::Closed => return Ok(()),
            // What a client sends before the handshake is not to be believed after it
            // (RFC 3207 section 4.2).
            End::StartTls if !wire.stream.buffer().is_empty() => return Ok(()),
            End::StartTls => {
                let acceptor = TlsAcceptor::from(receiver.tls.clone());
                let stream = acceptor.accept(wire.stream.into_inner()).await?;
                let version = stream.get_ref().1.protocol_version();
                tls = Some(version.map_or_else(String::new, |version| format!("{version:?}")));
                wire = Wire::new(Box::new(stream));
            }
        }
    }
}

/// How a stretch of plain or encrypted dialogue ends.
enum End {
    Closed,
    StartTls,
}

struct Session<'a> {
    receiver: &'a Receiver,
    client: IpAddr,
    wire: Wire,
    dialogue: Dialogue<'a>,
}

impl Session<'_> {
    async fn converse(&mut self) -> io::Result<End> {
        loop {
            let line = match self.wire.line().await? {
                Line::Whole(line) => line,
                Line::End => return Ok(End::Closed),
                Line::Bad(why) => {
                    self.wire.write(&line_of(521, why)).await?;
                    return Ok(End::Closed);
                }
            };
            let line = String::from_utf8_lossy(&line);
            let (step, ended) = self.dialogue.command(&line, now());
            self.note(ended, None, None);
            match step {
                Step::Reply(reply) => self.wire.write(&reply).await?,
                Step::ReplyAfter(seconds, reply) => {
                    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                    self.wire.write(&reply).await?;
                }
                Step::Data(reply) => {
                    self.wire.write(&reply).await?;
                    if !self.data().await? {
                        return Ok(End::Closed);
                    }
                }
                Step::StartTls(reply) => {
                    self.wire.write(&reply).await?;
                    return Ok(End::StartTls);
                }
                Step::BreakTls(reply) => {
                    self.wire.write(&reply).await?;
                    // Not a TLS record: the client's handshake fails at once.
                    self.wire.write("no TLS after all\r\n").await?;
                    return Ok(End::Closed);
                }
                Step::Close(reply) => {
                    self.wire.write(&reply).await?;
                    return Ok(End::Closed);
                }
                Step::Drop => return Ok(End::Closed),
            }
        }
    }

    /// Reads a message and answers it; false when the connection is to be closed.
    async fn data(&mut self) -> io::Result<bool> {
        let message = match self.wire.message().await? {
            Message::Whole(message) => message,
            Message::End => return Ok(false),
            Message::Bad(why) => {
                let draft = self.dialogue.take_draft();
                let reply = line_of(521, why);
                self.note(draft, None, Some(reply.clone()));
                self.wire.write(&reply).await?;
                return Ok(false);
            }
        };
        let kept = self.receiver.recorder.keep(&message);
        let (id, path) = kept.map_err(io::Error::other)?;
        let (reply, draft) = self.dialogue.message(&id, message.len());
        self.note(draft, Some(path), reply.clone());
        match reply {
            Some(reply) => {
                self.wire.write(&reply).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn note(
        &self,
        draft: Option<Draft>,
        message: Option<std::path::PathBuf>,
        reply: Option<String>,
    ) {
        let Some(draft) = draft else {
            return;
        };
        self.receiver.recorder.note(Transaction {
            begun: draft.begun,
            ended: now(),
            client_ip: self.client,
            helo: self.dialogue.helo().to_owned(),
            tls: self.dialogue.tls().map(str::to_owned),
            mail_from: draft.mail_from,
            parameters: draft.parameters,
            recipients: draft.recipients,
            message,
            reply: reply.map(|reply| reply.trim_end().to_owned()),
        });
    }
}

/// A plain or encrypted connection.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection cut into lines.
struct Wire {
    stream: tokio::io::BufReader<Box<dyn Duplex>>,
}

enum Line {
    /// Without its CRLF.
    Whole(Vec<u8>),
    /// The connection has ended.
    End,
    /// A line that breaks the protocol, with the reply to it.
    Bad(&'static str),
}

enum Message {
    /// Dots unstuffed.
    Whole(Vec<u8>),
    /// The connection has ended before the message did.
    End,
    /// A line in it breaks the protocol, with the reply to it.
    Bad(&'static str),
}

impl Wire {
    fn new(stream: Box<dyn Duplex>) -> Self {
        Self {
            stream: tokio::io::BufReader::new(stream),
        }
    }

    async fn write(&mut self, text: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).await?;
        stream.flush().await
    }

    async fn line(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_LINE);
        let read = limited.read_until(b'\n', &mut line);
        let read = tokio::time::timeout(IDLE, read).await;
        read.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(match line.strip_suffix(b"\n") {
            None if line.is_empty() => Line::End,
            None if line.len() as u64 == MAX_LINE => Line::Bad("5.5.2 line too long"),
            None => Line::End,
            Some(text) => match text.strip_suffix(b"\r") {
                None => Line::Bad("5.5.2 bare line feed"),
                Some(text) if text.contains(&b'\r') => Line::Bad("5.5.2 bare carriage return"),
                Some(text) => Line::Whole(text.to_vec()),
            },
        })
    }

    /// Reads to the line with the dot; keeps no more than a bit over [`MAX_MESSAGE`].
    async fn message(&mut self) -> io::Result<Message> {
        let mut message = Vec::new();
        loop {
            let line = match self.line().await? {
                Line::Whole(line) => line,
                Line::End => return Ok(Message::End),
                Line::Bad(why) => return Ok(Message::Bad(why)),
            };
            if line == b"." {
                return Ok(Message::Whole(message));
            }
            if message.len() <= MAX_MESSAGE {
                // RFC 5321 section 4.5.2: a leading dot was added by the client.
                message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                message.extend_from_slice(b"\r\n");
            }
        }
    }
}
