//! Judging answers, and the exchange with servers that are odd in ways real ones of today are not. How
//! zones and servers are found is tested against real name servers, in `e2e`.

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::TXT},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use super::*;

const WANTED: &str = "v=DKIM1; p=abc";

fn answered(said: &[(&str, Said)]) -> Authorities {
    let answer = |(server, said): &(&str, Said)| ServerAnswer {
        server: (*server).into(),
        said: said.clone(),
    };
    Authorities::Answered {
        answers: said.iter().map(answer).collect(),
        cached: 300,
    }
}

fn records(text: &str, ttl: u32) -> Said {
    Said::Records {
        texts: vec![text.into()],
        ttl,
    }
}

#[test]
fn table_of_sights() {
    let elsewise = |cached, some, problem: &str| Sight::Elsewise {
        cached,
        some,
        problem: problem.into(),
    };
    let unsure = |problem: &str| Sight::Unsure {
        problem: problem.into(),
    };
    let good = records(WANTED, 3_600);
    for (answers, wanted) in [
        (
            vec![("a", good.clone()), ("b", good.clone())],
            Sight::Everywhere { cached: 300 },
        ),
        (
            vec![("a", good.clone()), ("b", Said::NxDomain)],
            elsewise(300, true, "b answers that the name does not exist"),
        ),
        (
            vec![("a", Said::NoData), ("b", Said::NxDomain)],
            elsewise(300, false, "a answers with no record"),
        ),
        (
            vec![("a", records("other", 7_200)), ("b", good.clone())],
            elsewise(7_200, true, "a answers with another record"),
        ),
        (
            vec![("a", records("other", u32::MAX))],
            elsewise(MAX_TTL, false, "a answers with another record"),
        ),
        (
            vec![("a", good.clone()), ("b", Said::Nothing(Trouble::Lame))],
            unsure("b answered without authority for the zone"),
        ),
        (
            vec![("a", Said::Nothing(Trouble::Timeout)), ("b", Said::NoData)],
            elsewise(300, false, "b answers with no record"),
        ),
    ] {
        let sight = answered(&answers).sight(|texts| texts == [WANTED.to_owned()]);
        assert_eq!(sight, wanted, "{answers:?}");
    }
    let unknown = Authorities::Unknown("no servers".into());
    assert_eq!(unknown.sight(|_| true), unsure("no servers"));
}

#[test]
fn servers_that_nothing_is_heard_of_are_unreachable() {
    let silent = answered(&[
        ("a", Said::Nothing(Trouble::Timeout)),
        ("b", Said::Nothing(Trouble::Unreachable)),
    ]);
    let unreachable = Sight::Unreachable {
        cached: 300,
        problem: "a did not answer in time".into(),
    };
    assert_eq!(silent.sight(|_| true), unreachable, "as behind a firewall");
    for heard in [Trouble::Lame, Trouble::Refused, Trouble::ServerFailure] {
        let one = answered(&[
            ("a", Said::Nothing(heard)),
            ("b", Said::Nothing(Trouble::Timeout)),
        ]);
        let sight = one.sight(|_| true);
        assert!(
            matches!(sight, Sight::Unsure { .. }),
            "{heard:?}: {sight:?}"
        );
    }
}

#[test]
fn one_of_four_that_is_behind_is_named_and_makes_nothing_missing() {
    let good = || records(WANTED, 300);
    for (stale, says) in [
        (Said::NxDomain, "d answers that the name does not exist"),
        (Said::NoData, "d answers with no record"),
        (records("old", 300), "d answers with another record"),
    ] {
        let four = answered(&[("a", good()), ("b", good()), ("c", good()), ("d", stale)]);
        let sight = four.sight(|texts| texts == [WANTED.to_owned()]);
        let wanted = Sight::Elsewise {
            cached: 300,
            some: true,
            problem: says.into(),
        };
        assert_eq!(sight, wanted);
        let split = Agreement::Split("the name servers a and d answer differently".into());
        assert_eq!(four.agreement(), split);
    }
    let silent = Said::Nothing(Trouble::Timeout);
    let three = answered(&[("a", good()), ("b", silent.clone()), ("c", good())]);
    assert_eq!(three.agreement(), Agreement::Same(vec![WANTED.into()]));
    let gone = answered(&[("a", Said::NxDomain), ("b", Said::NoData)]);
    assert_eq!(gone.agreement(), Agreement::Same(Vec::new()));
    let nobody = answered(&[("a", silent)]).agreement();
    assert_eq!(nobody, Agreement::Silent("a did not answer in time".into()));
}

#[test]
fn table_of_servers_named_by_hand() {
    let good: ZoneServer = "Example.com=[2001:db8::53]:5353".parse().unwrap();
    assert_eq!(good.zone.as_str(), "example.com");
    assert_eq!(good.address.port(), 5353);
    for (text, part) in [
        ("example.com", "ZONE=ADDRESS:PORT"),
        ("com=192.0.2.1:53", "one label"),
        ("example.com=192.0.2.1", "\"192.0.2.1\" is no ADDRESS:PORT"),
    ] {
        let error = text.parse::<ZoneServer>().expect_err(text);
        assert!(error.contains(part), "{error}");
    }
}

/// What an odd server does with a question.
#[derive(Clone, Copy, Debug)]
enum Oddity {
    /// Does not know EDNS.
    NoEdns,
    /// Answers another question first, as a forger would.
    Forged,
    /// Answers from a cache.
    WithoutAuthority,
    /// Refers to other servers.
    Referral,
    /// Says nothing that can be read.
    Garbage,
    /// Says nothing.
    Silence,
    /// Loses the first question.
    Loses,
    /// Is behind something that drops questions with EDNS.
    EdnsDropped,
    /// Is behind something that drops answers of more than 512 octets; shorter ones are truncated.
    LargeDropped,
    /// Its answer is truncated, and it takes no connection.
    TcpRefused,
    /// SERVFAIL.
    Fails,
    /// REFUSED.
    Refuses,
    /// The name does not exist.
    NxDomain,
    /// The name exists without such a record.
    NoData,
    /// The name does not exist, says who does not know the zone.
    LameNxDomain,
}

fn reply(question: &Message, oddity: Oddity, number: usize) -> Vec<Vec<u8>> {
    let query = question.queries[0].clone();
    let mut good = Message::response(question.metadata.id, OpCode::Query);
    good.metadata.authoritative = true;
    good.add_query(query.clone());
    let text = RData::TXT(TXT::new(vec![WANTED.into()]));
    good.add_answer(Record::from_rdata(query.name().clone(), 60, text));
    match oddity {
        Oddity::NoEdns if question.edns.is_some() => {
            let mut error = Message::response(question.metadata.id, OpCode::Query);
            error.metadata.response_code = ResponseCode::FormErr;
            vec![error.to_vec().unwrap()]
        }
        Oddity::Forged => {
            let mut forged = good.clone();
            forged.metadata.id = question.metadata.id.wrapping_add(1);
            vec![forged.to_vec().unwrap(), good.to_vec().unwrap()]
        }
        Oddity::WithoutAuthority => {
            good.metadata.authoritative = false;
            vec![good.to_vec().unwrap()]
        }
        Oddity::Referral => {
            good.metadata.authoritative = false;
            good.answers.clear();
            vec![good.to_vec().unwrap()]
        }
        Oddity::Garbage => vec![question.to_vec().unwrap()[..5].to_vec()],
        Oddity::Silence => Vec::new(),
        Oddity::Loses if number == 0 => Vec::new(),
        Oddity::EdnsDropped if question.edns.is_some() => Vec::new(),
        Oddity::LargeDropped if question.edns.is_some() => Vec::new(),
        Oddity::LargeDropped | Oddity::TcpRefused => {
            good.answers.clear();
            good.metadata.truncation = true;
            vec![good.to_vec().unwrap()]
        }
        Oddity::Fails | Oddity::Refuses | Oddity::NxDomain | Oddity::NoData => {
            good.answers.clear();
            good.metadata.response_code = match oddity {
                Oddity::Fails => ResponseCode::ServFail,
                Oddity::Refuses => ResponseCode::Refused,
                Oddity::NxDomain => ResponseCode::NXDomain,
                _ => ResponseCode::NoError,
            };
            vec![good.to_vec().unwrap()]
        }
        Oddity::LameNxDomain => {
            good.answers.clear();
            good.metadata.authoritative = false;
            good.metadata.response_code = ResponseCode::NXDomain;
            vec![good.to_vec().unwrap()]
        }
        Oddity::NoEdns | Oddity::Loses | Oddity::EdnsDropped => vec![good.to_vec().unwrap()],
    }
}

async fn odd_server(oddity: Oddity) -> (SocketAddr, JoinSet<()>) {
    let (tcp, socket) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // The port may be taken on UDP; then another one is tried.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let address = socket.local_addr().unwrap();
    let mut task = JoinSet::new();
    match oddity {
        Oddity::TcpRefused => drop(tcp),
        _ => {
            task.spawn(async move {
                while let Ok((mut stream, _)) = tcp.accept().await {
                    let length = stream.read_u16().await.unwrap();
                    let mut octets = vec![0; usize::from(length)];
                    stream.read_exact(&mut octets).await.unwrap();
                    let question = Message::from_vec(&octets).unwrap();
                    for octets in reply(&question, Oddity::Loses, 1) {
                        let length = u16::try_from(octets.len()).unwrap();
                        stream.write_u16(length).await.unwrap();
                        stream.write_all(&octets).await.unwrap();
                    }
                }
            });
        }
    }
    task.spawn(async move {
        let mut buffer = [0; 1_500];
        for number in 0.. {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            assert!(!question.metadata.recursion_desired);
            for octets in reply(&question, oddity, number) {
                socket.send_to(&octets, from).await.unwrap();
            }
        }
    });
    (address, task)
}

#[tokio::test]
async fn table_of_odd_servers() {
    let name = Name::from_ascii("pr-1._domainkey.example.com.").unwrap();
    for (oddity, wanted) in [
        (Oddity::NoEdns, Ok(1)),
        (Oddity::Forged, Ok(1)),
        (Oddity::Loses, Ok(1)),
        (Oddity::EdnsDropped, Ok(1)),
        (Oddity::LargeDropped, Ok(1)),
        (Oddity::TcpRefused, Err(Trouble::Unreachable)),
        (Oddity::Fails, Err(Trouble::ServerFailure)),
        (Oddity::Refuses, Err(Trouble::Refused)),
        (Oddity::NxDomain, Ok(0)),
        (Oddity::NoData, Ok(0)),
        (Oddity::LameNxDomain, Err(Trouble::Lame)),
        (Oddity::WithoutAuthority, Err(Trouble::Lame)),
        (Oddity::Referral, Err(Trouble::Lame)),
        (Oddity::Garbage, Err(Trouble::BadAnswer)),
        (Oddity::Silence, Err(Trouble::Timeout)),
    ] {
        let (address, _task) = odd_server(oddity).await;
        let answer = exchange::ask(address, &name, RecordType::TXT).await;
        let answers = answer.map(|answer| answer.answers.len());
        assert_eq!(answers, wanted, "{oddity:?}");
    }
}
