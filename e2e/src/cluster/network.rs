//! The addresses of the cluster and the bridge that carries them.
//!
//! One /16 on one bridge: the machine is its first address, mail receivers of the demo and the
//! tests bind the next ones on port 25, pods get theirs from the upper half. Pods have
//! no default route, so none of their packets leaves the machine.
//!
//! Guarantees: what [`Network::up`] makes, [`Network::down`] removes; both may be repeated.

use std::{net::Ipv4Addr, path::Path};

use super::{command::Program, debian, error::Error};

/// The bridge.
pub const BRIDGE: &str = "postrider0";
/// The bridge's hardware address. A bridge without one of its own takes the lowest among those of its
/// ports: it would change as pods come and go, and the others would send to the old one, in vain,
/// until they ask for it again half a minute later.
const BRIDGE_ADDRESS: &str = "02:50:4f:53:54:52";
/// The machine as pods see it; the API server and the name server listen here.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);
/// Everything on the bridge.
pub const CIDR: &str = "10.201.0.0/16";
/// The addresses pods get: first and last.
pub(crate) const POD_RANGE: (Ipv4Addr, Ipv4Addr) = (
    Ipv4Addr::new(10, 201, 128, 1),
    Ipv4Addr::new(10, 201, 255, 250),
);
/// Cluster IPs of Services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The cluster IP of the API server: by convention the first of [`SERVICE_CIDR`].
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The cluster IP of the name server.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// How many addresses wait for receivers.
const RECEIVERS: u8 = 50;

/// The addresses of the machine that are free for receivers to bind, on any port.
pub fn receivers() -> impl Iterator<Item = Ipv4Addr> {
    (0..RECEIVERS).map(|nth| Ipv4Addr::new(10, 201, 0, 11 + nth))
}

/// Makes the bridge and its addresses.
pub(crate) async fn up() -> Result<(), Error> {
    let address = ["address", BRIDGE_ADDRESS];
    ip(&[&["link", "add", BRIDGE][..], &address, &["type", "bridge"]].concat()).await?;
    for address in std::iter::once(HOST).chain(receivers()) {
        ip(&["address", "add", &format!("{address}/16"), "dev", BRIDGE]).await?;
    }
    ip(&["link", "set", BRIDGE, "up"]).await?;
    // Without it the machine itself would send to Services from whatever its default route says.
    let host = HOST.to_string();
    ip(&["route", "add", SERVICE_CIDR, "dev", BRIDGE, "src", &host]).await
}

/// Removes the bridge, what hangs on it, and, with the nft out of the unpacked packages in
/// `debian`, the rules of kube-proxy.
pub(crate) async fn down(debian: Option<&Path>) -> Result<(), Error> {
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        for port in ports() {
            // A pod's end goes by itself when its namespace goes, perhaps just now.
            let _ = ip(&["link", "delete", &port]).await;
        }
        ip(&["link", "delete", BRIDGE]).await?;
    }
    let Some(debian) = debian else { return Ok(()) };
    for family in ["ip", "ip6"] {
        let nft = || {
            let libraries = debian::library_path(debian);
            Program::new(debian.join("usr/sbin/nft")).env("LD_LIBRARY_PATH", libraries)
        };
        if nft()
            .args(["list", "table", family, "kube-proxy"])
            .run()
            .await
            .is_ok()
        {
            nft()
                .args(["delete", "table", family, "kube-proxy"])
                .run()
                .await?;
        }
    }
    Ok(())
}

/// The interfaces attached to the bridge.
fn ports() -> Vec<String> {
    let dir = format!("/sys/class/net/{BRIDGE}/brif");
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

async fn ip(args: &[&str]) -> Result<(), Error> {
    Program::new("ip").args(args).run().await
}
