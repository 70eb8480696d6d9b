//! A pod reaches the receivers that bind addresses of the bridge, which see the pod's own address;
//! what is outside the machine it cannot even try to reach.

use postrider_e2e::cluster::receivers;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::timeout};

use crate::support::{BOUND, Trial};

#[tokio::test]
async fn pod_reaches_receivers_and_nothing_outside() {
    let trial = Trial::start("receivers").await;
    let address = receivers().last().expect("receivers have addresses");
    let receiver = TcpListener::bind((address, 25)).await.expect("bound");
    let place = format!("{address}:25");
    trial
        .pod("sender", &["fetch", &place, ",", "reach", "203.0.113.1:25"])
        .await;

    let accepted = timeout(BOUND, receiver.accept()).await.expect("in time");
    let (mut stream, peer) = accepted.expect("accepted");
    stream.write_all(b"220 here").await.expect("written");
    drop(stream);
    assert_eq!(
        trial.output("sender").await,
        "220 here\nNetworkUnreachable\n"
    );
    let status = trial
        .pods()
        .get("sender")
        .await
        .expect("the pod")
        .status
        .expect("its status");
    assert_eq!(status.pod_ip, Some(peer.ip().to_string()));
    trial.finish().await;
}
