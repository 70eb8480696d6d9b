//! The objects every cluster starts with: storage, and the name server as a Service.

use serde_json::{Value, json};

use super::{command::Program, error::Error, network, paths::StateDir, storage, tools::Tools};

/// Applies them all.
pub(crate) async fn apply(tools: &Tools, state: &StateDir) -> Result<(), Error> {
    let mut items = storage::prepare(state)?;
    items.extend(name_server());
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let path = state.write("objects.json", &list.to_string())?;
    Program::new(tools.kubectl())
        .args([format!("--kubeconfig={}", state.kubeconfig().display())])
        .args([format!(
            "--cache-dir={}",
            state.join("kubectl-cache").display()
        )])
        .args([
            "apply",
            "--server-side",
            "--field-manager=postrider-e2e",
            "-f",
        ])
        .args([path])
        .run()
        .await
}

/// CoreDNS runs on the machine, so its Service has no selector and its endpoint is written here.
fn name_server() -> [Value; 4] {
    let meta = json!({"name": "kube-dns", "namespace": "kube-system"});
    let ports = json!([
        {"name": "dns", "protocol": "UDP", "port": 53},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53},
    ]);
    let role = json!({"name": "system:coredns"});
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"clusterIP": network::DNS_SERVICE, "ports": ports},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-1", "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [{"addresses": [network::HOST], "conditions": {"ready": true}}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": role,
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"],
                 "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                 "verbs": ["list", "watch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": role,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
                          "name": "system:coredns"}],
        }),
    ]
}
