//! A test zone is served to pods by the name server of the cluster as soon as `put_zone` returns,
//! and so is a change of it; a zone that was removed is gone.

use crate::support::Trial;

#[tokio::test]
async fn pod_sees_zone_changes() {
    let trial = Trial::start("zone").await;
    let dns = trial.cluster.dns();
    for (pod, address) in [("before", "192.0.2.25"), ("after", "192.0.2.26")] {
        dns.put_zone("changes.test", &format!("mail IN A {address}"))
            .await
            .expect("served");
        trial.pod(pod, &["resolve", "mail.changes.test"]).await;
        assert_eq!(trial.output(pod).await, format!("{address}\n"));
    }
    dns.remove_zone("changes.test").await.expect("gone");
    trial.finish().await;
}

#[tokio::test]
async fn zone_with_a_fault_is_told() {
    let trial = Trial::start("zone-fault").await;
    let dns = trial.cluster.dns();
    let error = dns
        .put_zone("faulty.test", "mail IN A none")
        .await
        .expect_err("no address");
    let text = error.to_string();
    assert!(
        text.contains("faulty.test") && text.contains("coredns.log"),
        "{text}"
    );
    trial.finish().await;
}
