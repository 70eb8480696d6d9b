//! What the operator makes of a zone's name servers, asked over the wire: all in step, one behind, one
//! lame, one silent, an answer that does not fit, an alias into another zone.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use postrider_crds::RecordType;
use postrider_e2e::{
    cluster::Cache,
    peers::{Nsd, StopOnDrop, dns::Zone, loopback},
};
use postrider_operator::{
    dns::{
        HickoryResolver, Resolver as _, Sight,
        authority::{Agreement, Authorities, AuthoritySettings, Said, ZoneServer},
    },
    metrics::Metrics,
};

const PORT: u16 = 5300;
const NAME: &str = "pr-1._domainkey.shop.test";
const RECORD: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

fn host(n: u8) -> IpAddr {
    loopback(n).into()
}

/// The zone with four name servers, the record there or not.
fn shop() -> Zone {
    Zone::new("shop.test")
        .negative_ttl(77)
        .name_server("ns1", host(2))
        .name_server("ns2", host(3))
        .name_server("ns3", host(4))
        .name_server("ns4", host(5))
        .mx("bounce", 10, "mail.relays.test")
}

fn zones(with_record: bool) -> Vec<Zone> {
    let shop = if with_record {
        shop().txt("pr-1._domainkey", RECORD)
    } else {
        shop()
    };
    let long = "x".repeat(1_500);
    vec![
        shop.txt("long", &long)
            .record("alias._domainkey", "CNAME", "pr-1.keys.test."),
    ]
}

/// Where the aliases lead: one server, the second.
fn keys() -> Zone {
    Zone::new("keys.test")
        .negative_ttl(999)
        .name_server("ns", host(3))
        .txt("pr-1", RECORD)
}

struct Servers {
    _stop: Vec<StopOnDrop>,
    dir: tempfile::TempDir,
    cache: Cache,
}

impl Servers {
    async fn start(&mut self, n: u8, zones: &[Zone]) -> Nsd {
        let dir = self.dir.path().join(n.to_string());
        self._stop.push(StopOnDrop(dir.clone()));
        let listen = SocketAddr::new(host(n), PORT);
        Nsd::start(&dir, &self.cache, listen, zones).await.unwrap()
    }
}

fn resolver(settings: AuthoritySettings) -> HickoryResolver {
    let metrics = Arc::new(Metrics::new().unwrap());
    let servers = [SocketAddr::new(host(1), PORT)];
    HickoryResolver::new(&servers, metrics)
        .unwrap()
        .with_authorities(settings)
}

async fn sight(resolver: &HickoryResolver, name: &str) -> Sight {
    let authorities = resolver.authorities(name, RecordType::TXT).await;
    authorities.sight(|texts| texts == [RECORD.to_owned()])
}

/// The problem in `sight`, and whether some server has the record.
fn problem(sight: Sight) -> (Option<bool>, String) {
    match sight {
        Sight::Elsewise { some, problem, .. } => (Some(some), problem),
        Sight::Unsure { problem } | Sight::Unreachable { problem, .. } => (None, problem),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one set of servers, one change after the other"
)]
async fn every_server_of_a_zone_is_asked_and_each_way_of_being_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::of_user().unwrap();
    let mut servers = Servers {
        _stop: Vec::new(),
        dir,
        cache,
    };
    // What the operator is told to resolve with: it knows every zone.
    let all: Vec<Zone> = zones(true)
        .into_iter()
        .chain([keys(), Zone::new("")])
        .collect();
    servers.start(1, &all).await;
    servers.start(2, &zones(true)).await;
    let both: Vec<Zone> = zones(true).into_iter().chain([keys()]).collect();
    servers.start(3, &both).await;
    let third = servers.start(4, &zones(true)).await;
    servers.start(5, &zones(true)).await;
    let asks = resolver(AuthoritySettings {
        port: PORT,
        servers: Vec::new(),
    });

    assert_eq!(sight(&asks, NAME).await, Sight::Everywhere { cached: 77 });
    let nowhere = problem(sight(&asks, "pr-9._domainkey.shop.test").await);
    assert_eq!(nowhere.0, Some(false));
    assert!(nowhere.1.contains("ns1.shop.test"), "{}", nowhere.1);
    assert!(nowhere.1.contains("does not exist"), "{}", nowhere.1);

    // An answer that does not fit a datagram comes over TCP.
    let Authorities::Answered { answers, .. } =
        asks.authorities("long.shop.test", RecordType::TXT).await
    else {
        panic!("no servers");
    };
    assert_eq!(answers.len(), 4);
    for answer in answers {
        let Said::Records { texts, .. } = answer.said else {
            panic!("{answer:?}");
        };
        assert_eq!(texts[0].len(), 1_500);
    }

    // The alias is followed into the zone it leads to, whose caches count too.
    let alias = sight(&asks, "alias._domainkey.shop.test").await;
    assert_eq!(alias, Sight::Everywhere { cached: 999 });

    // One of four is behind.
    third.stop().await.unwrap();
    let third = servers.start(4, &zones(false)).await;
    let (some, stale) = problem(sight(&asks, NAME).await);
    assert_eq!(some, Some(true));
    let at = SocketAddr::new(host(4), PORT);
    assert_eq!(
        stale,
        format!("ns3.shop.test ({at}) answers that the name does not exist")
    );

    let split = Agreement::Split(format!(
        "the name servers ns1.shop.test ({}) and ns3.shop.test ({at}) answer differently",
        SocketAddr::new(host(2), PORT)
    ));
    let behind = asks.authorities(NAME, RecordType::TXT).await;
    assert_eq!(behind.agreement(), split);
    let exchanges = asks.authorities("bounce.shop.test", RecordType::MX).await;
    let same = Agreement::Same(vec!["10 mail.relays.test.".into()]);
    assert_eq!(exchanges.agreement(), same);

    // One of four serves another zone.
    third.stop().await.unwrap();
    let third = servers.start(4, &[Zone::new("other.test")]).await;
    let (some, lame) = problem(sight(&asks, NAME).await);
    assert_eq!(some, None);
    assert_eq!(lame, format!("ns3.shop.test ({at}) answered REFUSED"));

    // One of four is not there.
    third.stop().await.unwrap();
    let (some, gone) = problem(sight(&asks, NAME).await);
    assert_eq!(some, None);
    assert!(gone.contains("ns3.shop.test"), "{gone}");

    // As behind a firewall: the resolver knows the servers, and none can be reached.
    let walled = resolver(AuthoritySettings {
        port: 5_999,
        servers: Vec::new(),
    });
    match sight(&walled, NAME).await {
        Sight::Unreachable { cached, problem } => {
            assert_eq!(cached, 77);
            assert!(problem.contains("ns1.shop.test"), "{problem}");
        }
        other => panic!("{other:?}"),
    }

    // Where the servers are named by hand, the zone's own are not asked.
    let server = |n: u8| ZoneServer {
        zone: "shop.test".parse().unwrap(),
        address: SocketAddr::new(host(n), PORT),
    };
    let told = resolver(AuthoritySettings {
        port: 1,
        servers: vec![server(2), server(3)],
    });
    assert_eq!(sight(&told, NAME).await, Sight::Everywhere { cached: 77 });
}
