//! From applied objects over published records to messages that independent judges find signed with
//! both keys, within SPF and passing DMARC, at two receivers: a scripted one, and a Postfix whose
//! OpenDKIM agrees.

use std::net::{IpAddr, SocketAddr};

use postrider_e2e::{
    cluster::{Cache, receivers},
    peers::{Postfix, PostfixConfig, Programs, StopOnDrop, dns::Zone, sink::Rules, stop},
};

use crate::support::{BOUND, Stage, passes};

#[tokio::test]
async fn verified_domain_delivers_signed_mail() {
    let stage = Stage::start("journey", 10, Rules::default()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let _stop = StopOnDrop(directory.path().to_owned());
    let postfix = postfix(&stage, directory.path(), 11).await;
    stage.ready_to_send().await;

    let sent = stage.send("ada", "A journey").await;
    let taken = stage.delivered(&sent).await;
    let verdicts = stage.judged(&[taken]).await;
    assert_eq!(verdicts.len(), 1);
    verdicts.iter().for_each(passes);

    let mut message = stage.message("ada", "Another");
    message.to = "ada@postfix-journey.example".to_owned();
    let sent = stage.client().await.send(&[message]).await;
    assert!(sent.expect("a session")[0].accepted);
    let arrived = postfix.wait_received("ada@postfix-journey.example", 1, BOUND);
    let arrived = arrived.await.expect("in time").remove(0);
    let opendkim = &arrived.authentication_results;
    assert!(
        opendkim.iter().any(|one| one.contains("dkim=pass")),
        "{arrived:?}"
    );
    assert!(
        !opendkim.iter().any(|one| one.contains("dkim=fail")),
        "{arrived:?}"
    );
    stop(directory.path()).await.expect("stopped");
    stage.finish().await;
}

/// A Postfix with OpenDKIM for `postfix-journey.example` on the `nth` address.
async fn postfix(stage: &Stage, directory: &std::path::Path, nth: usize) -> Postfix {
    let address = IpAddr::V4(receivers().nth(nth).expect("an address"));
    let (zone, host) = ("postfix-journey.example", "mx.postfix-journey.example");
    let records = Zone::new(zone).mx("@", 10, host).address("mx", address);
    let dns = stage.cluster.dns();
    dns.put_zone(zone, records.records()).await.expect("served");
    let programs = Programs::ready(&Cache::of_user().expect("a cache")).await;
    let config = PostfixConfig {
        listen: SocketAddr::new(address, 25),
        hostname: host.to_owned(),
        domains: vec![zone.to_owned()],
        recipients: vec![format!("ada@{zone}")],
        nameserver: dns.address(),
    };
    let started = Postfix::start(directory, &programs.expect("programs"), &config).await;
    started.expect("a Postfix")
}
