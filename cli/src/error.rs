//! Why a command could not be carried out, with the resource, the namespace and the remedy.

use postrider_crds::queue::OrderProblem;

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No usable kubeconfig and no service account.
    #[error(
        "no cluster to talk to: {0}; pass --kubeconfig PATH, set KUBECONFIG, or check --context"
    )]
    Config(String),
    /// The API server gave no answer.
    #[error(
        "no answer from the API server at {url}: {problem}; check the network, the kubeconfig and --context"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// The cluster does not know the kind.
    #[error(
        "the cluster at {url} has no kind {kind}; install the Postrider chart with crds.enabled=true, or check --context"
    )]
    NotInstalled {
        /// The kind.
        kind: String,
        /// The cluster.
        url: String,
    },
    /// The object does not exist.
    #[error(
        "{kind} {namespace}/{name} does not exist; list them with: kubectl get {plural} --all-namespaces"
    )]
    NotFound {
        /// The kind.
        kind: String,
        /// Its plural.
        plural: String,
        /// Where it was looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The user may not read.
    #[error(
        "not allowed to read {plural} {place}: {problem}; ask for the verbs get and list on {plural} in the API group {group}"
    )]
    Forbidden {
        /// The plural of the kind.
        plural: String,
        /// Its group.
        group: String,
        /// `in namespace x` or `in all namespaces`.
        place: String,
        /// The API server's words.
        problem: String,
    },
    /// The user may not write.
    #[error(
        "not allowed to write spec.dkim.rotation.trigger of SendingDomain {namespace}/{name}: {problem}; ask for the verb patch on sendingdomains in the API group postrider.dev"
    )]
    ReadOnly {
        /// Namespace of the SendingDomain.
        namespace: String,
        /// Its name.
        name: String,
        /// The API server's words.
        problem: String,
    },
    /// The field to write is somebody else's.
    #[error(
        "spec.dkim.rotation.trigger of SendingDomain {namespace}/{name} belongs to somebody else: {problem}; change it where the manifest is kept, in Git or with the tool that applies it"
    )]
    Owned {
        /// Namespace of the SendingDomain.
        namespace: String,
        /// Its name.
        name: String,
        /// The API server's words.
        problem: String,
    },
    /// The API server refused for another reason.
    #[error("the API server refuses {plural} {place}: {problem}")]
    Refused {
        /// The plural of the kind.
        plural: String,
        /// `in namespace x` or `in all namespaces`.
        place: String,
        /// The API server's words.
        problem: String,
    },
    /// A pool without pods.
    #[error(
        "RelayPool {namespace}/{pool} has no pods; kubectl describe relaypool {pool} -n {namespace} says why"
    )]
    NoPods {
        /// Namespace of the pool.
        namespace: String,
        /// Its name.
        pool: String,
    },
    /// The pool's certificates are not there yet, or not whole.
    #[error(
        "Secret {namespace}/{secret} has no usable client certificate: {problem}; the operator makes it, is it running?"
    )]
    Certificates {
        /// Namespace of the Secret.
        namespace: String,
        /// Its name.
        secret: String,
        /// What is wrong.
        problem: String,
    },
    /// What is asked of a queue is no order.
    #[error("{0}")]
    Order(OrderProblem),
    /// A manifest cannot be read.
    #[error("cannot read {path}: {source}; correct the path or make it readable")]
    Manifest {
        /// The path.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody can be asked about DNS.
    #[error("no DNS server can be asked: {0}")]
    Resolver(String),
    /// The answer cannot be written as JSON.
    #[error("cannot render the answer: {0}")]
    Render(#[source] serde_json::Error),
    /// The answer cannot be written as YAML.
    #[error("cannot render the answer: {0}")]
    RenderYaml(#[source] serde_yaml::Error),
    /// Standard output is gone.
    #[error("cannot write to standard output: {0}")]
    Print(#[source] std::io::Error),
}

impl Error {
    /// The exit code: 2 when a check could not be made or an order is none, 1 otherwise.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Manifest { .. } | Self::Resolver(_) | Self::Order(_) => 2,
            Self::Config(_)
            | Self::Unreachable { .. }
            | Self::NotInstalled { .. }
            | Self::NotFound { .. }
            | Self::Forbidden { .. }
            | Self::ReadOnly { .. }
            | Self::Owned { .. }
            | Self::Refused { .. }
            | Self::NoPods { .. }
            | Self::Certificates { .. }
            | Self::Render(_)
            | Self::RenderYaml(_)
            | Self::Print(_) => 1,
        }
    }
}
