//! kubelet: the machine as the one node.

use std::path::PathBuf;

use serde_json::json;

use super::{
    containerd,
    daemon::{Enclosed, Spec},
    error::Error,
    host, network,
    paths::StateDir,
    pki::{Identity, Pki},
    tools::Tools,
};

/// The name of the node.
pub const NODE: &str = "postrider-node";

/// How to start it; writes its configuration.
pub(crate) fn spec(
    tools: &Tools,
    state: &StateDir,
    pki: &Pki,
    server: &str,
) -> Result<Spec, Error> {
    let user = format!("system:node:{NODE}");
    let client = Identity::client("kubelet", &user, Some("system:nodes"));
    let path = state.join("pki/kubelet.kubeconfig");
    let kubeconfig: PathBuf = pki.kubeconfig(&client, server, path)?;
    let config = state.write("kubelet.json", &config(state, pki)?)?;
    Ok(Spec {
        name: "kubelet".to_owned(),
        program: tools.kubernetes("kubelet"),
        args: vec![
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--root-dir={}", state.make("kubelet")?.display()),
            format!("--cert-dir={}", state.join("pki/kubelet").display()),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", network::HOST),
        ],
        env: Vec::new(),
        enclosed: Enclosed::Yes,
    })
}

fn config(state: &StateDir, pki: &Pki) -> Result<String, Error> {
    let serves = [NODE.to_owned(), network::HOST.to_string()];
    let identity = Identity {
        name: "kubelet-serving",
        user: "kubelet",
        group: None,
        serves: &serves,
    };
    let serving = pki.issue(&identity)?;
    let resolv = state.write("resolv.conf", &format!("nameserver {}\n", network::HOST))?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network::HOST,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.file("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": serving.cert,
        "tlsPrivateKeyFile": serving.key,
        "clusterDNS": [network::DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": resolv,
        "containerRuntimeEndpoint": format!("unix://{}", containerd::socket(state).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", host::CGROUP),
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // The machine is shared: it is not divided into shares, and its disk being fuller than a
        // node's would be is no reason to evict or to throw images away, which nobody could pull.
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": false,
        "podLogsDir": state.make("pod-logs")?,
        "volumePluginDir": state.make("volume-plugins")?,
        "serializeImagePulls": false,
    });
    Ok(format!("{config:#}\n"))
}
