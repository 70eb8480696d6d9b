//! One question to one address of a name server: UDP, TCP where the answer is truncated, without
//! EDNS where the server does not know it or something on the way drops what is large.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::Trouble;

/// Wait for one datagram.
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Datagrams sent while none is answered: one may be lost, and what carries EDNS, or its answer of more
/// than 512 octets, may be dropped by something on the way (RFC 6891 §6.2.5).
const DATAGRAMS: [Extension; 3] = [Extension::Edns, Extension::Plain, Extension::Plain];
/// Wait for an answer over TCP.
const STREAM_TIMEOUT: Duration = Duration::from_secs(4);
/// Largest datagram asked for: what passes without fragments (DNS flag day 2020).
const PAYLOAD: u16 = 1_232;
/// Largest message (RFC 1035 §4.2.2).
const MAX_MESSAGE: usize = 65_535;

/// Whether a question says what its asker can take (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    Edns,
    Plain,
}

/// The answer of the server at `address` about `kind` records of `name`: NOERROR or NXDOMAIN, with
/// authority.
pub(super) async fn ask(
    address: SocketAddr,
    name: &Name,
    kind: RecordType,
) -> Result<Message, Trouble> {
    let answer = answer_of(address, name, kind).await?;
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain if !answer.metadata.authoritative => {
            Err(Trouble::Lame)
        }
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        ResponseCode::ServFail => Err(Trouble::ServerFailure),
        ResponseCode::Refused => Err(Trouble::Refused),
        _ => Err(Trouble::ErrorResponse),
    }
}

async fn answer_of(address: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, Trouble> {
    let mut last = Trouble::Timeout;
    for extension in DATAGRAMS {
        let (question, octets) = question(name, kind, extension)?;
        let exchange = over_udp(address, &question, &octets);
        match timeout(DATAGRAM_TIMEOUT, exchange).await {
            Ok(Ok(answer)) if answer.metadata.truncation => {
                return over_tcp(address, &question, &octets).await;
            }
            // RFC 6891 §7: so says a server that does not know EDNS.
            Ok(Ok(answer)) if extension == Extension::Edns && is_taken_amiss(&answer) => {}
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Trouble::NoRoute)) => return Err(Trouble::NoRoute),
            Ok(Err(trouble)) => last = trouble,
            Err(_) => last = Trouble::Timeout,
        }
    }
    Err(last)
}

fn is_taken_amiss(answer: &Message) -> bool {
    matches!(
        answer.metadata.response_code,
        ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS
    )
}

fn question(
    name: &Name,
    kind: RecordType,
    extension: Extension,
) -> Result<(Message, Vec<u8>), Trouble> {
    let mut question = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = false;
    question.add_query(Query::query(name.clone(), kind));
    if extension == Extension::Edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_version(0);
        question.set_edns(edns);
    }
    let octets = question.to_vec().map_err(|_| Trouble::BadAnswer)?;
    Ok((question, octets))
}

async fn over_udp(
    address: SocketAddr,
    question: &Message,
    octets: &[u8],
) -> Result<Message, Trouble> {
    let any: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await.map_err(|e| of_io(&e))?;
    socket.connect(address).await.map_err(|e| of_io(&e))?;
    socket.send(octets).await.map_err(|e| of_io(&e))?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|e| of_io(&e))?;
        let received = buffer.get(..length).unwrap_or_default();
        // Anybody can send to the port: what does not answer the question is not from the server.
        match Message::from_vec(received) {
            Ok(answer) if answers(&answer, question) => return Ok(answer),
            Err(_) if received.get(..2) == octets.get(..2) => return Err(Trouble::BadAnswer),
            Ok(_) | Err(_) => {}
        }
    }
}

async fn over_tcp(
    address: SocketAddr,
    question: &Message,
    octets: &[u8],
) -> Result<Message, Trouble> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let length = u16::try_from(octets.len()).unwrap_or(u16::MAX);
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(octets).await?;
        let length = stream.read_u16().await?;
        let mut received = vec![0; usize::from(length)];
        stream.read_exact(&mut received).await?;
        Ok(received)
    };
    let received = match timeout(STREAM_TIMEOUT, exchange).await {
        Err(_) => return Err(Trouble::Timeout),
        Ok(Err(error)) => return Err(of_io(&error)),
        Ok(Ok(received)) => received,
    };
    Message::from_vec(&received)
        .ok()
        .filter(|answer| answers(answer, question))
        .ok_or(Trouble::BadAnswer)
}

/// True when `answer` is one to `question` (RFC 5452 §9.1). A server that cannot read a question
/// may leave it out.
fn answers(answer: &Message, question: &Message) -> bool {
    let same_question = answer.queries == question.queries;
    let unread =
        answer.queries.is_empty() && answer.metadata.response_code != ResponseCode::NoError;
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && (same_question || unread)
}

fn of_io(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::Unsupported => Trouble::NoRoute,
        io::ErrorKind::TimedOut => Trouble::Timeout,
        _ => Trouble::Unreachable,
    }
}
