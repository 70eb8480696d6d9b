//! Reads Postrider's resources from an API server, and says in the user's words why it cannot.
//!
//! Writes one field, the trigger of a rotation ([`Cluster::set_trigger`]), and nothing else. Every
//! call is bounded by [`CALL_TIMEOUT`]. Leads to the ports of pods ([`Cluster::forward`]).

use std::{fmt::Debug, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config, Resource,
    api::{ListParams, Patch, PatchParams, PostParams, ValidationDirective},
    config::{KubeConfigOptions, Kubeconfig},
};
use postrider_crds::{RelayPool, SendingDomain, SuppressionList};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{args::Connection, error::Error};

/// Longest wait for one answer: the client itself repeats calls to an overloaded API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Objects asked for at a time, which bounds the size of one answer.
const PAGE: u32 = 500;

/// The field manager of a trigger that this command writes.
pub(crate) const ROTATE_MANAGER: &str = "postrider-rotate";

/// A cluster, as far as this command reads it.
pub(crate) struct Cluster {
    client: Client,
    url: String,
    namespace: String,
}

/// All that Postrider knows of in the namespaces looked at.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    /// Relay pools.
    pub(crate) pools: Vec<RelayPool>,
    /// Sending domains.
    pub(crate) domains: Vec<SendingDomain>,
    /// Suppression lists.
    pub(crate) lists: Vec<SuppressionList>,
}

impl Cluster {
    /// The cluster that the arguments, the environment or the pod's account name.
    pub(crate) async fn connect(connection: &Connection) -> Result<Self, Error> {
        let mut config = config(connection).await?;
        config.connect_timeout = Some(Duration::from_secs(10));
        let url = config.cluster_url.to_string();
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|e| Error::Config(chain(&e)))?;
        Ok(Self {
            client,
            url,
            namespace,
        })
    }

    /// The namespace of the context.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// One SendingDomain.
    pub(crate) async fn sending_domain(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<SendingDomain, Error> {
        let api: Api<SendingDomain> = Api::namespaced(self.client.clone(), namespace);
        self.answer::<SendingDomain, _>(Some(namespace), Some(name), api.get(name))
            .await
    }

    /// One RelayPool; `None` when it does not exist or may not be read, since it is only asked for
    /// advice.
    pub(crate) async fn relay_pool_if_any(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<RelayPool>, Error> {
        let api: Api<RelayPool> = Api::namespaced(self.client.clone(), namespace);
        let answer = self.answer::<RelayPool, _>(Some(namespace), Some(name), api.get(name));
        match answer.await {
            Ok(pool) => Ok(Some(pool)),
            Err(Error::NotFound { .. } | Error::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One object of a namespace.
    pub(crate) async fn get<K>(&self, namespace: &str, name: &str) -> Result<K, Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.answer::<K, _>(Some(namespace), Some(name), api.get(name))
            .await
    }

    /// The pods of a namespace with these labels.
    pub(crate) async fn pods(&self, namespace: &str, labels: &str) -> Result<Vec<Pod>, Error> {
        let params = ListParams::default().labels(labels);
        self.list(Some(namespace), params).await
    }

    /// What the API server makes of a review, which it does not keep.
    pub(crate) async fn review<K>(&self, review: &K) -> Result<K, Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let params = PostParams::default();
        self.answer::<K, _>(None, None, api.create(&params, review))
            .await
    }

    /// A connection to a port of a pod, through the API server. The caller bounds the time; why there
    /// is none is said in the API server's words.
    pub(crate) async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>, String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let forwarder = api.portforward(pod, &[port]).await;
        let mut forwarder = forwarder.map_err(|error| {
            format!(
                "port {port} cannot be forwarded: {}; it takes the verbs get and create on pods/portforward",
                chain(&error)
            )
        })?;
        let stream = forwarder.take_stream(port);
        stream.ok_or_else(|| format!("port {port} was not forwarded"))
    }

    /// Writes `spec.dkim.rotation.trigger`, unless somebody else's manifest holds it.
    pub(crate) async fn set_trigger(
        &self,
        namespace: &str,
        name: &str,
        trigger: &str,
    ) -> Result<SendingDomain, Error> {
        let api: Api<SendingDomain> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(ROTATE_MANAGER)
        };
        let patch = Patch::Apply(serde_json::json!({
            "apiVersion": SendingDomain::api_version(&()),
            "kind": SendingDomain::kind(&()),
            "metadata": {"name": name},
            "spec": {"dkim": {"rotation": {"trigger": trigger}}},
        }));
        let call = api.patch(name, &params, &patch);
        let answer = self.answer::<SendingDomain, _>(Some(namespace), Some(name), call);
        answer.await.map_err(|error| match error {
            Error::Forbidden { problem, .. } => Error::ReadOnly {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                problem,
            },
            other => other,
        })
    }

    /// Every resource of `namespace`, or of all namespaces.
    pub(crate) async fn everything(&self, namespace: Option<&str>) -> Result<Everything, Error> {
        Ok(Everything {
            pools: self.list(namespace, ListParams::default()).await?,
            domains: self.list(namespace, ListParams::default()).await?,
            lists: self.list(namespace, ListParams::default()).await?,
        })
    }

    async fn list<K>(&self, namespace: Option<&str>, params: ListParams) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let mut all = Vec::new();
        let mut params = params.limit(PAGE);
        loop {
            let page = self
                .answer::<K, _>(namespace, None, api.list(&params))
                .await?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    async fn answer<K: Resource<DynamicType = ()>, T>(
        &self,
        namespace: Option<&str>,
        name: Option<&str>,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.explain::<K>(namespace, name, error)),
            Err(_) => Err(Error::Unreachable {
                url: self.url.clone(),
                problem: format!("none within {} s", CALL_TIMEOUT.as_secs()),
            }),
        }
    }

    fn explain<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        name: Option<&str>,
        error: kube::Error,
    ) -> Error {
        let (kind, plural) = (K::kind(&()).into_owned(), K::plural(&()).into_owned());
        let group = match K::group(&()).as_ref() {
            "" => "\"\" (core)".to_owned(),
            group => group.to_owned(),
        };
        let place = namespace.map_or_else(
            || "in all namespaces".to_owned(),
            |namespace| format!("in namespace {namespace}"),
        );
        let status = match error {
            kube::Error::Api(status) => status,
            kube::Error::SerdeError(error) => {
                let problem =
                    format!("{error}; is this command older than the cluster's Postrider?");
                return Error::Refused {
                    plural,
                    place,
                    problem,
                };
            }
            other => {
                return Error::Unreachable {
                    url: self.url.clone(),
                    problem: chain(&other),
                };
            }
        };
        let object = status.details.as_ref().map_or("", |d| d.name.as_str());
        match (status.code, namespace.zip(name)) {
            // An API server names the object it misses, and nothing when it misses the kind.
            (404, Some((namespace, name))) if object == name => Error::NotFound {
                kind,
                plural,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            (404, _) => Error::NotInstalled {
                kind,
                url: self.url.clone(),
            },
            (401 | 403, _) => Error::Forbidden {
                plural,
                group,
                place,
                problem: status.message,
            },
            (409, Some((namespace, name))) => Error::Owned {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                problem: status.message,
            },
            _ => Error::Refused {
                plural,
                place,
                problem: status.message,
            },
        }
    }
}

async fn config(connection: &Connection) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: connection.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match (&connection.kubeconfig, &connection.context) {
        (Some(path), _) => {
            let read = Kubeconfig::read_from(path)
                .map_err(|e| Error::Config(format!("{}: {}", path.display(), chain(&e))))?;
            Config::from_custom_kubeconfig(read, &options).await
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await,
        (None, None) => {
            return Config::infer().await.map_err(|e| Error::Config(chain(&e)));
        }
    };
    config.map_err(|e| Error::Config(chain(&e)))
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
