//! The file with which a client finds and enters a cluster.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

/// A kubeconfig with the credentials inside, so that it works from any directory. All arguments
/// but `server`, a URL, are PEM. JSON is YAML.
pub(crate) fn render(server: &str, ca: &str, cert: &str, key: &str) -> String {
    let name = "postrider-e2e";
    let encoded = |pem: &str| STANDARD.encode(pem);
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {
            "server": server, "certificate-authority-data": encoded(ca),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": encoded(cert), "client-key-data": encoded(key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    format!("{text:#}\n")
}
