//! The hickory resolver against a scripted name server on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::{
    op::{Message, OpCode},
    rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, TXT},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use super::*;

/// A name server on UDP and TCP of one port; ends when dropped.
struct Server {
    address: SocketAddr,
    questions: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// Whether a server takes connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tcp {
    Taken,
    Refused,
}

impl Server {
    async fn start() -> Self {
        Self::over(Tcp::Taken).await
    }

    async fn over(connections: Tcp) -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The port may be taken on UDP; then another one is tried.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let questions = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counter = questions.clone();
        tasks.spawn(async move {
            let mut buffer = [0; 1232];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                let number = counter.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&buffer[..length], number, true) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        if connections == Tcp::Refused {
            drop(tcp);
            return Self {
                address,
                questions,
                _tasks: tasks,
            };
        }
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = stream.read_u16().await.unwrap();
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await.unwrap();
                if let Some(answer) = answer(&query, 0, false) {
                    stream
                        .write_u16(u16::try_from(answer.len()).unwrap())
                        .await
                        .unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            }
        });
        Self {
            address,
            questions,
            _tasks: tasks,
        }
    }
}

/// What the server says to question number `number`; `None`: nothing.
fn answer(query: &[u8], number: usize, udp: bool) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let name = question.name().to_ascii();
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.add_query(question.clone());
    match name.as_str() {
        "silent.example." => return None,
        "servfail.example." => reply.metadata.response_code = ResponseCode::ServFail,
        "refused.example." => reply.metadata.response_code = ResponseCode::Refused,
        "notimp.example." => reply.metadata.response_code = ResponseCode::NotImp,
        "long.example." if udp => reply.metadata.truncation = true,
        // Some put into a truncated answer what fits.
        "part.example." if udp => {
            reply.metadata.truncation = true;
            let part = RData::TXT(TXT::new(vec!["v=spf1 -all".into()]));
            reply.add_answer(Record::from_rdata(question.name().clone(), 77, part));
        }
        "formerr.example." if query.edns.is_some() => {
            reply.metadata.response_code = ResponseCode::FormErr;
        }
        "dropsedns.example." if udp && query.edns.is_some() => return None,
        "formerr.example." | "dropsedns.example." => {
            let data = RData::TXT(TXT::new(vec!["here".into()]));
            reply.add_answer(Record::from_rdata(question.name().clone(), 77, data));
        }
        "nothing.example." => negative(&mut reply, ResponseCode::NXDomain),
        "appearing.example." if number == 0 => negative(&mut reply, ResponseCode::NXDomain),
        "alias.example." => {
            let target = Name::from_ascii("real.example.").unwrap();
            let alias = RData::CNAME(CNAME(target.clone()));
            reply.add_answer(Record::from_rdata(question.name().clone(), 77, alias));
            let a = RData::A(A("192.0.2.7".parse().unwrap()));
            reply.add_answer(Record::from_rdata(target, 5, a));
        }
        other => {
            let records = records(other, question.query_type(), number);
            if records.is_empty() {
                negative(&mut reply, ResponseCode::NoError);
            }
            for data in records {
                reply.add_answer(Record::from_rdata(question.name().clone(), 77, data));
            }
        }
    }
    Some(reply.to_vec().unwrap())
}

fn negative(reply: &mut Message, code: ResponseCode) {
    reply.metadata.response_code = code;
    let zone = Name::from_ascii("example.").unwrap();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86_400, 3600);
    reply.add_authority(Record::from_rdata(zone, 3600, RData::SOA(soa)));
}

fn records(name: &str, kind: RecordType, number: usize) -> Vec<RData> {
    let txt = |strings: Vec<String>| vec![RData::TXT(TXT::new(strings))];
    let mx = |preference, host| RData::MX(MX::new(preference, Name::from_ascii(host).unwrap()));
    match (name, kind) {
        ("split.example.", RecordType::TXT) => txt(vec!["v=DKIM1; ".into(), "p=abc".into()]),
        ("changing.example.", RecordType::TXT) => txt(vec![format!("answer {number}")]),
        ("appearing.example.", RecordType::TXT) => txt(vec!["here".into()]),
        ("long.example.", RecordType::TXT) => txt(vec!["x".repeat(255); 8]),
        ("six.example.", RecordType::AAAA) => {
            vec![RData::AAAA(AAAA("2001:db8::7".parse().unwrap()))]
        }
        ("mx.example.", RecordType::MX) => vec![mx(20, "B.example."), mx(10, "a.example.")],
        ("nullmx.example.", RecordType::MX) => vec![mx(0, ".")],
        ("7.2.0.192.in-addr.arpa.", RecordType::PTR) => {
            vec![RData::PTR(PTR(Name::from_ascii("Mail.example.").unwrap()))]
        }
        _ => Vec::new(),
    }
}

fn resolver(servers: &[SocketAddr]) -> (HickoryResolver, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (
        HickoryResolver::new(servers, metrics.clone()).unwrap(),
        metrics,
    )
}

fn found<T>(answer: Answer<T>) -> (Vec<T>, u32) {
    match answer {
        Answer::Found { records, ttl } => (records, ttl),
        Answer::NoData | Answer::NxDomain | Answer::Unavailable(_) => panic!("nothing found"),
    }
}

fn kind<T>(answer: Answer<T>) -> FailureKind {
    match answer {
        Answer::Unavailable(failure) => failure.kind,
        Answer::Found { .. } | Answer::NoData | Answer::NxDomain => panic!("answered"),
    }
}

#[tokio::test]
async fn records_of_every_type_come_in_their_form() {
    let server = Server::start().await;
    let (resolver, metrics) = resolver(&[server.address]);
    assert_eq!(
        found(resolver.txt("split.example").await),
        (vec!["v=DKIM1; p=abc".into()], 77)
    );
    let exchange = |preference, host: &str| MailExchange {
        preference,
        host: host.into(),
    };
    assert_eq!(
        found(resolver.mx("mx.example").await).0,
        [exchange(10, "a.example"), exchange(20, "b.example")]
    );
    assert_eq!(
        found(resolver.mx("nullmx.example").await).0,
        [exchange(0, "")]
    );
    let (addresses, ttl) = found(resolver.ipv4("alias.example").await);
    assert_eq!((addresses, ttl), (vec!["192.0.2.7".parse().unwrap()], 5));
    let six: IpAddr = "2001:db8::7".parse().unwrap();
    assert_eq!(found(resolver.ipv6("six.example").await).0, [six]);
    let names = resolver.ptr("192.0.2.7".parse().unwrap()).await;
    assert_eq!(found(names).0, ["mail.example"]);
    let long = found(resolver.txt("long.example").await).0;
    assert_eq!(
        long[0].len(),
        8 * 255,
        "a truncated answer is asked for again over TCP"
    );
    let text = metrics.render(jiff::Timestamp::UNIX_EPOCH);
    assert!(
        text.contains("postrider_dns_lookups_total{result=\"found\"} 7"),
        "{text}"
    );
}

#[tokio::test]
async fn no_record_and_no_answer_are_told_apart() {
    let server = Server::start().await;
    let (resolver, metrics) = resolver(&[server.address]);
    assert_eq!(resolver.txt("empty.example").await, Answer::NoData);
    assert_eq!(resolver.txt("nothing.example").await, Answer::NxDomain);
    assert_eq!(
        kind(resolver.txt("servfail.example").await),
        FailureKind::ServerFailure
    );
    assert_eq!(
        kind(resolver.mx("refused.example").await),
        FailureKind::Refused
    );
    assert_eq!(
        kind(resolver.txt("notimp.example").await),
        FailureKind::ErrorResponse
    );
    assert_eq!(
        kind(resolver.txt(&"x".repeat(64)).await),
        FailureKind::BadName
    );
    let text = metrics.render(jiff::Timestamp::UNIX_EPOCH);
    assert!(
        text.contains("postrider_dns_lookups_total{result=\"empty\"} 2"),
        "{text}"
    );
    assert!(
        text.contains("postrider_dns_lookups_total{result=\"failed\"} 4"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_remembered() {
    let server = Server::start().await;
    let (resolver, _) = resolver(&[server.address]);
    assert_eq!(resolver.txt("appearing.example").await, Answer::NxDomain);
    assert_eq!(found(resolver.txt("appearing.example").await).0, ["here"]);
    let first = found(resolver.txt("changing.example").await).0;
    let second = found(resolver.txt("changing.example").await).0;
    assert_ne!(first, second);
    assert_eq!(server.questions.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_a_failure_that_names_it() {
    // Bound and dropped: nobody listens there now.
    let address = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (resolver, _) = resolver(&[address]);
    let Answer::Unavailable(failure) = resolver.txt("a.example").await else {
        panic!("answered");
    };
    assert!(
        failure
            .to_string()
            .starts_with(&format!("the resolver {address} ")),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_times_out() {
    let server = Server::start().await;
    let (resolver, _) = resolver(&[server.address]);
    assert_eq!(
        kind(resolver.txt("silent.example").await),
        FailureKind::Timeout
    );
}

/// A truncated answer whose whole cannot be had says nothing: neither "no record" nor the part.
#[tokio::test(start_paused = true)]
async fn a_truncated_answer_is_none_where_tcp_is_refused() {
    let server = Server::over(Tcp::Refused).await;
    let (resolver, _) = resolver(&[server.address]);
    for name in ["long.example", "part.example"] {
        let answer = resolver.txt(name).await;
        assert!(
            matches!(answer, Answer::Unavailable(_)),
            "{name}: {answer:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_with_edns_makes_nothing_missing() {
    let server = Server::start().await;
    let (resolver, _) = resolver(&[server.address]);
    for name in ["formerr.example", "dropsedns.example"] {
        let answer = resolver.txt(name).await;
        let records = vec!["here".to_owned()];
        assert_eq!(answer, Answer::Found { records, ttl: 77 }, "{name}");
    }
}

/// A resolver that fails leaves the answer to the other, whichever is asked first.
#[tokio::test]
async fn one_of_two_resolvers_is_enough() {
    let good = Server::start().await;
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = nobody.local_addr().unwrap();
    let (resolver, _) = resolver(&[silent, good.address]);
    for _ in 0..3 {
        let answer = resolver.txt("split.example").await;
        assert_eq!(found(answer).0, ["v=DKIM1; p=abc"]);
    }
}
