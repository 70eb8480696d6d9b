//! The bridge has the same hardware address whatever joins it, so that pods that know it reach the
//! machine while other pods come and go.

use std::{path::Path, process::Command};

use postrider_e2e::cluster::BRIDGE;

use crate::support::Trial;

/// An interface with an address lower than any that is drawn for a pod's.
const LOW: (&str, &str) = ("postrider-low", "02:00:00:00:00:01");

#[tokio::test]
async fn bridge_keeps_its_hardware_address() {
    let trial = Trial::start("bridge-keeps-its-address").await;
    let before = address();
    let (name, low) = LOW;
    ip(&["link", "add", name, "address", low, "type", "veth"]);
    ip(&["link", "set", name, "master", BRIDGE, "up"]);
    let during = address();
    ip(&["link", "delete", name]);
    assert!(low < before.as_str(), "{before} would be kept anyway");
    assert_eq!(during, before);
    trial.finish().await;
}

fn address() -> String {
    let path = Path::new("/sys/class/net").join(BRIDGE).join("address");
    let address = std::fs::read_to_string(path).expect("an address");
    address.trim().to_owned()
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status();
    assert!(status.expect("run").success(), "ip {args:?}");
}
