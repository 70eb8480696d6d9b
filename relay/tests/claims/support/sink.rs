//! A receiver: greylists `grey...`, knows no `unknown...`, takes everything else.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::within;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) from: String,
    /// What MAIL said behind the address.
    pub(crate) parameters: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) data: String,
    /// The command it came by: `DATA` or `BDAT`.
    pub(crate) command: &'static str,
}

/// A running receiver.
#[derive(Clone)]
pub(crate) struct Sink {
    received: Arc<watch::Sender<Vec<Received>>>,
    greylisted: Arc<Mutex<HashSet<String>>>,
    offers: Arc<Mutex<Vec<&'static str>>>,
}

/// Port of the receiver.
pub(crate) const PORT: u16 = 2525;

impl Sink {
    pub(crate) async fn serve(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, PORT)).await.unwrap();
        let sink = Self {
            received: Arc::new(watch::channel(Vec::new()).0),
            greylisted: Arc::default(),
            offers: Arc::new(Mutex::new(vec!["PIPELINING"])),
        };
        let serving = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = serving.clone();
                // A client that goes away in the middle is part of some tests.
                tokio::spawn(async move { sink.session(BufStream::new(stream)).await.ok() });
            }
        });
        sink
    }

    /// Offers these extensions and 8BITMIME from now on.
    pub(crate) fn offer(&self, extensions: &[&'static str]) {
        *self.offers.lock().unwrap() = extensions.to_vec();
    }

    /// What has arrived.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    /// Waits for the first message that `wanted` holds for.
    pub(crate) async fn wait(&self, what: &str, wanted: impl Fn(&Received) -> bool) -> Received {
        let mut received = self.received.subscribe();
        let found = within(what, received.wait_for(|all| all.iter().any(&wanted))).await;
        found.unwrap().iter().find(|r| wanted(r)).unwrap().clone()
    }

    /// Waits until so many messages have arrived; gives them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut received = self.received.subscribe();
        let what = format!("{count} messages");
        let found = within(&what, received.wait_for(|all| all.len() >= count)).await;
        found.unwrap().clone()
    }

    async fn session(&self, mut stream: BufStream<TcpStream>) -> std::io::Result<()> {
        say(&mut stream, "220 sink").await?;
        let (mut mail, mut recipients) = (String::new(), Vec::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            let verb: String = line.chars().take(4).collect::<String>().to_uppercase();
            let reply = match verb.as_str() {
                "EHLO" => self.greeting(),
                "MAIL" => {
                    (mail, recipients) = (line.to_owned(), Vec::new());
                    "250 ok".into()
                }
                "RCPT" => self.recipient(path(line), &mut recipients),
                "DATA" if recipients.is_empty() => "554 nobody".into(),
                "DATA" => {
                    say(&mut stream, "354 go").await?;
                    let data = text(&mut stream).await?;
                    self.take(&mail, &mut recipients, (data, "DATA"))
                }
                "BDAT" => {
                    let data = chunk(&mut stream, line).await?;
                    match recipients.is_empty() {
                        true => "503 nobody".into(),
                        false => self.take(&mail, &mut recipients, (data, "BDAT")),
                    }
                }
                "RSET" | "NOOP" => "250 ok".into(),
                "QUIT" => {
                    say(&mut stream, "221 bye").await?;
                    return Ok(());
                }
                _ => "502 no".into(),
            };
            say(&mut stream, &reply).await?;
        }
    }

    fn greeting(&self) -> String {
        let offers = self.offers.lock().unwrap();
        let offers: String = offers.iter().map(|o| format!("250-{o}\r\n")).collect();
        format!("250-sink\r\n{offers}250 8BITMIME")
    }

    fn take(
        &self,
        mail: &str,
        recipients: &mut Vec<String>,
        (data, command): (String, &'static str),
    ) -> String {
        let message = Received {
            from: path(mail),
            parameters: mail
                .rsplit_once('>')
                .map_or("", |(_, rest)| rest)
                .to_owned(),
            recipients: std::mem::take(recipients),
            data,
            command,
        };
        self.received.send_modify(|all| all.push(message));
        "250 2.0.0 taken".into()
    }

    fn recipient(&self, address: String, recipients: &mut Vec<String>) -> String {
        if address.starts_with("unknown") {
            return "550 5.1.1 no such user".into();
        }
        let mut greylisted = self.greylisted.lock().unwrap();
        if address.starts_with("grey") && greylisted.insert(address.clone()) {
            return "451 4.7.1 greylisted, come back".into();
        }
        recipients.push(address);
        "250 ok".into()
    }
}

async fn say(stream: &mut BufStream<TcpStream>, reply: &str) -> std::io::Result<()> {
    stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    stream.flush().await
}

/// The octets of `BDAT <octets> LAST`.
async fn chunk(stream: &mut BufStream<TcpStream>, line: &str) -> std::io::Result<String> {
    let size = line.strip_suffix(" LAST").and_then(|l| l.get(5..));
    let size = size.and_then(|size| size.parse().ok());
    let mut data = vec![0; size.ok_or(std::io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut data).await?;
    Ok(String::from_utf8_lossy(&data).into_owned())
}

async fn text(stream: &mut BufStream<TcpStream>) -> std::io::Result<String> {
    let mut data = Vec::new();
    loop {
        let start = data.len();
        if stream.read_until(b'\n', &mut data).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if &data[start..] == b".\r\n" {
            data.truncate(start);
            return Ok(String::from_utf8_lossy(&data).into_owned());
        }
        // RFC 5321 4.5.2
        if data[start..].starts_with(b".") {
            data.remove(start);
        }
    }
}

fn path(line: &str) -> String {
    let inner = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or_else(String::new, |(path, _)| path.to_owned())
}
