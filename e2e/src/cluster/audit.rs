//! The API server's audit log: who wrote what, as the server itself saw it.
//!
//! Guarantees: every request of a service account that may change something has one line, written
//! before the client reads the reply. Nothing else is logged, and no contents of objects.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use super::{
    error::{Error, OnPath},
    paths::StateDir,
};

/// The log, in the state directory.
const LOG: &str = "logs/audit.log";
/// What is logged; see the audit.k8s.io/v1 API.
const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
  userGroups: [\"system:serviceaccounts\"]
- level: None
";

/// The arguments with which the API server writes it.
pub(super) fn args(state: &StateDir) -> Result<Vec<String>, Error> {
    state.make("logs")?;
    let policy = state.write("audit-policy.yaml", POLICY)?;
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log(state).display()),
    ])
}

/// Where it lies.
fn log(state: &StateDir) -> PathBuf {
    state.join(LOG)
}

/// A request that may have changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The user, `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The resource in the plural, `leases`; empty where the request is about none.
    pub resource: String,
    /// The part of the resource, `status`; empty for the whole.
    pub subresource: String,
    /// The namespace; empty for what is in none.
    pub namespace: String,
    /// The name, where the request gave one.
    pub name: String,
}

/// All writes so far, in the order of their ends. The line that is being written is left out.
pub(super) fn read(state: &StateDir) -> Result<Vec<Write>, Error> {
    let path = log(state);
    let text = fs::read_to_string(&path).on("read", &path)?;
    let whole = text
        .rfind('\n')
        .map_or("", |end| text.get(..end).unwrap_or(""));
    whole
        .lines()
        .map(|line| {
            let event: Event = serde_json::from_str(line)
                .map_err(std::io::Error::from)
                .on("read", &path)?;
            Ok(event.into())
        })
        .collect()
}

/// A line of the log, as far as it matters here.
#[derive(Deserialize)]
struct Event {
    verb: String,
    user: User,
    #[serde(default, rename = "objectRef")]
    object: Object,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl From<Event> for Write {
    fn from(event: Event) -> Self {
        let Object {
            resource,
            subresource,
            namespace,
            name,
        } = event.object;
        Self {
            user: event.user.username,
            verb: event.verb,
            resource,
            subresource,
            namespace,
            name,
        }
    }
}
