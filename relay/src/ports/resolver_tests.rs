//! The resolver against a name server on loopback that says what it is told.

use std::{net::Ipv4Addr, sync::Arc};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{Record, rdata},
};
use tokio::net::UdpSocket;

use super::*;

/// A zone of everything the relay has to tell apart.
fn answer(name: &str, kind: RecordType) -> Result<Vec<RData>, ResponseCode> {
    let host = |text: &str| Name::from_ascii(text).unwrap();
    let mx = |preference, text: &str| RData::MX(rdata::MX::new(preference, host(text)));
    let a = |last| RData::A(rdata::A(Ipv4Addr::new(192, 0, 2, last)));
    match (name, kind) {
        ("example.org.", RecordType::MX) => {
            Ok(vec![mx(20, "B.example.org."), mx(10, "a.example.org.")])
        }
        ("null.example.", RecordType::MX) => Ok(vec![mx(0, ".")]),
        ("alias.example.", _) => Ok(vec![RData::CNAME(rdata::CNAME(host("a.example.org.")))]),
        ("a.example.org.", RecordType::A) => Ok(vec![a(1), a(2)]),
        ("a.example.org.", RecordType::AAAA) => Ok(vec![RData::AAAA(
            "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().into(),
        )]),
        ("odd_host.example.", RecordType::A) => Ok(vec![a(5)]),
        ("odd_host.example.", _) => Ok(Vec::new()),
        ("four.example.", RecordType::A) => Ok(vec![a(4)]),
        ("four.example.", _) | ("empty.example.", _) => Ok(Vec::new()),
        ("sick.example.", _) => Err(ResponseCode::ServFail),
        ("refused.example.", _) => Err(ResponseCode::Refused),
        _ => Err(ResponseCode::NXDomain),
    }
}

fn respond(question: &[u8]) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let mut response = Message::response(question.metadata.id, OpCode::Query);
    response.metadata.recursion_available = true;
    response.add_query(query.clone());
    let mut name = query.name().clone();
    loop {
        match answer(&name.to_string().to_lowercase(), query.query_type()) {
            Err(code) => {
                response.metadata.response_code = code;
                break;
            }
            Ok(records) => {
                let owner = name.clone();
                let alias = records.iter().find_map(|data| match data {
                    RData::CNAME(alias) => Some(alias.0.clone()),
                    _ => None,
                });
                for data in records {
                    response.add_answer(Record::from_rdata(owner.clone(), 60, data));
                }
                match alias {
                    Some(alias) => name = alias,
                    None => break,
                }
            }
        }
    }
    response.to_vec().unwrap()
}

async fn resolver() -> DnsResolver {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            socket
                .send_to(&respond(&buffer[..length]), from)
                .await
                .unwrap();
        }
    });
    DnsResolver::new(&[address]).unwrap()
}

async fn mx(resolver: &DnsResolver, domain: &str) -> String {
    match resolver.mx(&domain.parse().unwrap()).await {
        Ok(Answer::Records(mut records)) => {
            records.sort_by_key(|r| r.preference);
            let hosts = records
                .iter()
                .map(|r| format!("{} {}", r.preference, r.host));
            hosts.collect::<Vec<_>>().join(", ")
        }
        Ok(Answer::NoData) => "nodata".into(),
        Ok(Answer::NxDomain) => "nxdomain".into(),
        Err(error) => format!("trouble with {}", error.name),
    }
}

#[tokio::test]
async fn mx_answers_are_told_apart() {
    let resolver = resolver().await;
    for (domain, expected) in [
        ("example.org", "10 a.example.org, 20 b.example.org"),
        ("null.example", "0 "),
        ("empty.example", "nodata"),
        ("gone.example", "nxdomain"),
        ("sick.example", "trouble with sick.example"),
        ("refused.example", "trouble with refused.example"),
    ] {
        assert_eq!(mx(&resolver, domain).await, expected, "{domain}");
    }
}

#[tokio::test]
async fn addresses_are_of_both_families_and_through_aliases() {
    let resolver = resolver().await;
    let of = async |host: &str| match resolver.addresses(host).await {
        Ok(Answer::Records(mut addresses)) => {
            addresses.sort_unstable();
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        }
        Ok(other) => format!("{other:?}"),
        Err(_) => "trouble".into(),
    };
    assert_eq!(of("a.example.org").await, "192.0.2.1 192.0.2.2 2001:db8::1");
    assert_eq!(of("alias.example").await, "192.0.2.1 192.0.2.2 2001:db8::1");
    assert_eq!(of("four.example").await, "192.0.2.4");
    assert_eq!(of("odd_host.example").await, "192.0.2.5");
    assert_eq!(of("empty.example").await, "NoData");
    assert_eq!(of("gone.example").await, "NxDomain");
    assert_eq!(of("sick.example").await, "trouble");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_trouble_in_bounded_time() {
    // Bound but never read.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let resolver = DnsResolver::new(&[silent.local_addr().unwrap()]).unwrap();
    tokio::time::pause();
    // Longer than the resolver promises to take.
    let bound = LOOKUP_TIMEOUT + Duration::from_secs(1);
    let answer = tokio::time::timeout(bound, mx(&resolver, "example.org")).await;
    assert_eq!(answer.as_deref(), Ok("trouble with example.org"));
}
