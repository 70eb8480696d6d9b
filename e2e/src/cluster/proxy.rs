//! kube-proxy: cluster IPs of Services, by nftables.
//!
//! All it does lies in one nftables table a family, named `kube-proxy`, which nobody else uses:
//! taking it down is deleting the table, and no iptables program is needed at all.

use serde_json::json;

use super::{
    daemon::{Enclosed, Spec},
    error::Error,
    kubelet::NODE,
    network,
    paths::StateDir,
    pki::{Identity, Pki},
    tools::Tools,
};

/// How to start it; writes its configuration.
pub(crate) fn spec(
    tools: &Tools,
    state: &StateDir,
    pki: &Pki,
    server: &str,
) -> Result<Spec, Error> {
    let client = Identity::client("kube-proxy", "system:kube-proxy", None);
    let kubeconfig = pki.kubeconfig(&client, server, state.join("pki/kube-proxy.kubeconfig"))?;
    let host = network::HOST;
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": kubeconfig},
        "hostnameOverride": NODE,
        "clusterCIDR": network::CIDR,
        "bindAddress": host,
        "healthzBindAddress": format!("{host}:10256"),
        "metricsBindAddress": format!("{host}:10249"),
        "oomScoreAdj": 0,
        "nftables": {"minSyncPeriod": "100ms"},
        // Zero means: leave the machine's settings as they are.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    });
    let config = state.write("kube-proxy.json", &format!("{config:#}\n"))?;
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(Spec {
        name: "kube-proxy".to_owned(),
        program: tools.kubernetes("kube-proxy"),
        args: vec![format!("--config={}", config.display())],
        env: vec![
            ("PATH".to_owned(), tools.search_path(&path)),
            (
                "LD_LIBRARY_PATH".to_owned(),
                tools.library_path().display().to_string(),
            ),
        ],
        enclosed: Enclosed::No,
    })
}
