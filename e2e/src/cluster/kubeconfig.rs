//! The file with which a client finds and enters a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::config::Kubeconfig;
use serde_json::json;

use super::error::{Error, OnPath as _};

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

/// Writes to `path` the administrator's `kubeconfig` with the rights of `user` alone, by
/// impersonation; returns `path`.
///
/// # Errors
/// When the one cannot be read or the other not be written.
pub fn acting_as(kubeconfig: &Path, user: &str, path: PathBuf) -> Result<PathBuf, Error> {
    let mut config = Kubeconfig::read_from(kubeconfig)?;
    let users = config.auth_infos.iter_mut();
    for info in users.filter_map(|named| named.auth_info.as_mut()) {
        info.impersonate = Some(user.to_owned());
    }
    fs::write(&path, json!(config).to_string()).on("write", &path)?;
    Ok(path)
}
